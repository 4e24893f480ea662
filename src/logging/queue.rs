//! Between those who log and a standard error that may block: a bounded queue and the
//! thread that empties it.
//!
//! Whoever logs never waits. While the reader of the log does not read, or the disk that
//! takes it is full, lines are dropped, counted, and spoken of once lines get through
//! again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

/// Text that waits at most: more than a thousand lines, which is what an agent writes in a
/// bad minute. A reader that is further behind than that is not reading.
pub(super) const MAX_BYTES: usize = 256 << 10;

/// Between two tries of a descriptor that somebody made non-blocking.
const PAUSE: Duration = Duration::from_millis(20);

/// Lines on their way to standard error.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Told of every line and of the end of every write.
    changed: Condvar,
    /// Lines that nobody will read.
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// A line has been taken and is being written.
    writing: bool,
    /// Dropped since that was last said.
    unsaid: u64,
}

impl Queue {
    pub(super) fn new(dropped: Counter) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), dropped }
    }

    /// Puts a line at the end, or drops it where there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes + line.len() > MAX_BYTES {
            self.drop_one(&mut state);
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.into());
        drop(state);
        self.changed.notify_all();
    }

    /// Writes what comes, for ever; `say` is told how many lines were dropped once there
    /// is room again, and logs it.
    pub(super) fn write_to(&self, mut to: impl Write, say: impl Fn(u64)) -> ! {
        loop {
            let line = self.next();
            let written = self.write(&mut to, &line);
            let mut state = self.lock();
            state.writing = false;
            if written.is_err() {
                self.drop_one(&mut state);
            }
            let healed = written.is_ok() && state.bytes < MAX_BYTES / 2;
            let unsaid = if healed { std::mem::take(&mut state.unsaid) } else { 0 };
            drop(state);
            self.changed.notify_all();
            if unsaid > 0 {
                say(unsaid);
            }
        }
    }

    /// Waits until everything is written, but no longer than this.
    pub(super) fn flush(&self, within: Duration) {
        let waiting = |state: &mut State| state.writing || !state.lines.is_empty();
        // Poisoned or late: there is nothing more to be done for these lines.
        let _given_up = self.changed.wait_timeout_while(self.lock(), within, waiting);
    }

    fn next(&self) -> Box<[u8]> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writing = true;
                return line;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&self, to: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
        while !line.is_empty() {
            match to.write(line) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => line = &line[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Nothing tells of this but time; that it may wake early is no matter.
                    let _woken = self.changed.wait_timeout(self.lock(), PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        to.flush()
    }

    fn drop_one(&self, state: &mut State) {
        state.unsaid += 1;
        self.dropped.inc();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Takes a line whenever it is allowed to, in the way it is told.
    struct Gate {
        allowed: mpsc::Receiver<io::Result<()>>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            // The end of the test counts as a reader that is gone.
            self.allowed.recv().unwrap_or(Err(io::ErrorKind::BrokenPipe.into()))?;
            self.written.send(buf.to_vec()).unwrap();
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Bed {
        queue: Arc<Queue>,
        allow: mpsc::Sender<io::Result<()>>,
        written: mpsc::Receiver<Vec<u8>>,
        said: mpsc::Receiver<u64>,
    }

    fn bed() -> Bed {
        let queue = Arc::new(Queue::new(Counter::default()));
        let (allow, allowed) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        let (say, said) = mpsc::channel();
        let writer = Arc::clone(&queue);
        thread::spawn(move || {
            let gate = Gate { allowed, written: sender };
            writer.write_to(gate, move |count| {
                let _test_is_over = say.send(count);
            })
        });
        Bed { queue, allow, written, said }
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_nobody_s_time() {
        let bed = bed();
        let line = [b'x'; 1024];
        for _ in 0..2 * MAX_BYTES / line.len() {
            bed.queue.push(&line);
        }
        let dropped = bed.queue.dropped.get();
        let room = (MAX_BYTES / line.len()) as u64;
        let kept = 2 * room - dropped;
        // One is being written, if the writer was so quick.
        assert!((room..=room + 1).contains(&kept), "{kept}");
        assert!(bed.said.try_recv().is_err());
        for _ in 0..kept {
            bed.allow.send(Ok(())).unwrap();
        }
        for _ in 0..kept {
            assert_eq!(bed.written.recv_timeout(PATIENCE).unwrap(), line);
        }
        assert_eq!(bed.said.recv_timeout(PATIENCE).unwrap(), dropped);
        bed.queue.flush(PATIENCE);
        assert_eq!(bed.queue.dropped.get(), dropped);
    }

    #[test]
    fn a_full_disk_costs_lines_until_it_has_room() {
        let bed = bed();
        for outcome in [
            Err(io::ErrorKind::StorageFull.into()),
            Err(io::ErrorKind::Interrupted.into()),
            Err(io::ErrorKind::WouldBlock.into()),
            Ok(()),
        ] {
            bed.allow.send(outcome).unwrap();
        }
        bed.queue.push(b"lost");
        bed.queue.push(b"told");
        assert_eq!(bed.written.recv_timeout(PATIENCE).unwrap(), b"told");
        assert_eq!(bed.said.recv_timeout(PATIENCE).unwrap(), 1);
        assert_eq!(bed.queue.dropped.get(), 1);
    }

    #[test]
    fn flushing_gives_up_in_time() {
        let bed = bed();
        bed.queue.push(b"never");
        bed.queue.flush(Duration::from_millis(20));
        assert_eq!(bed.queue.dropped.get(), 0);
        bed.allow.send(Ok(())).unwrap();
        bed.queue.flush(PATIENCE);
        assert_eq!(bed.written.try_recv().unwrap(), b"never");
    }
}
