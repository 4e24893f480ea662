use super::*;
use crate::node::NodeName;

fn encoder() -> Encoder {
    Encoder::new(&NodeName::parse("a@h.io").unwrap(), 1)
}

#[test]
fn bytes_and_frames_are_bounded() {
    let (queue, encoder) = (Queue::default(), encoder());
    let mut queued = 0;
    while queue.push(&encoder, &[0; 10_000], 1 << 20) == SendOutcome::Queued {
        queued += 1;
    }
    assert!(queued > 20 && queue.lock().bytes.len() <= QUEUE_BYTES);
    assert_eq!(queue.push(&encoder, &[0; 10_000], 1 << 20), SendOutcome::Full);
    assert_eq!(queue.take().len(), queued * encoder.framed_len(10_000));
    for _ in 0..QUEUE_FRAMES {
        assert_eq!(queue.push(&encoder, &[], 1 << 20), SendOutcome::Queued);
    }
    assert_eq!(queue.push(&encoder, &[], 1 << 20), SendOutcome::Full);
    queue.take();
    assert_eq!(queue.lock().bytes.capacity(), 0);
}

#[test]
fn one_frame_beyond_the_bound_passes_an_empty_queue() {
    let (queue, encoder) = (Queue::default(), encoder());
    let large = vec![0; QUEUE_BYTES * 2];
    assert_eq!(queue.push(&encoder, &large, 1 << 20), SendOutcome::Queued);
    assert_eq!(queue.push(&encoder, &[], 1 << 20), SendOutcome::Full);
    queue.take();
    assert_eq!(queue.push(&encoder, &large, 1000), SendOutcome::TooLong);
    assert!(queue.take().is_empty());
}

#[test]
fn a_closing_queue_takes_nothing_and_keeps_its_first_reason() {
    let (queue, encoder) = (Queue::default(), encoder());
    queue.push(&encoder, b"x", 1000);
    queue.close("first");
    queue.close("second");
    assert_eq!(queue.push(&encoder, b"y", 1000), SendOutcome::NoLink);
    assert_eq!(queue.closing().as_deref(), Some("first"));
    assert!(!queue.take().is_empty());
}
