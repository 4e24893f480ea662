use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn frames(frames: u32) -> Used {
    Used { frames, ..Used::default() }
}

fn work(work: Duration) -> Used {
    Used { work, ..Used::default() }
}

#[tokio::test(start_paused = true)]
async fn a_burst_passes_and_what_is_more_waits_for_its_time() {
    let start = Instant::now();
    let mut rate = Rate::new(start);
    assert_eq!(rate.take(frames(4_000), start), None);
    assert_eq!(rate.take(frames(2_000), start), Some(start + SECOND));
    assert_eq!(rate.take(frames(2_000), start + SECOND * 2), None);
    let bytes = Used { bytes: 24 << 20, ..Used::default() };
    assert_eq!(rate.take(bytes, start + SECOND * 2), Some(start + SECOND * 3));
}

#[tokio::test(start_paused = true)]
async fn few_frames_that_cost_much_are_too_many() {
    let start = Instant::now();
    let mut rate = Rate::new(start);
    assert_eq!(rate.take(work(SECOND / 4), start), None);
    assert_eq!(rate.take(work(SECOND / 50), start), Some(start + SECOND));
    // Kept up for ever: a fiftieth of a processor.
    let mut now = start + SECOND;
    for _ in 0..100 {
        now = rate.take(work(SECOND / 100), now).unwrap();
    }
    let passed = now.duration_since(start + SECOND);
    assert!(passed >= SECOND * 49 && passed <= SECOND * 51, "{passed:?}");
}
