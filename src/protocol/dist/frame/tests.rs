use proptest::prelude::*;

use super::*;

fn frames(decoder: &mut Decoder) -> Result<Vec<Vec<u8>>, TooLong> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame.to_vec());
    }
    Ok(frames)
}

#[test]
fn a_length_beyond_the_cap_is_refused_before_anything_is_kept() {
    let mut decoder = Decoder::new(Prefix::Four, 100);
    decoder.push(&[0xff, 0xff, 0xff]);
    assert_eq!(decoder.next_frame(), Ok(None));
    decoder.push(&[0xff]);
    let error = Err(TooLong { length: u32::MAX, max: 100 });
    assert_eq!(decoder.next_frame(), error);
    assert_eq!(decoder.next_frame(), error);
    assert!(decoder.capacity() < 64);
    let mut decoder = Decoder::new(Prefix::Two, 100);
    decoder.push(&[0, 101]);
    assert_eq!(decoder.next_frame(), Err(TooLong { length: 101, max: 100 }));
}

#[test]
fn the_cap_itself_is_allowed() {
    let mut decoder = Decoder::new(Prefix::Four, 3);
    decoder.push(&[0, 0, 0, 3, 1, 2, 3]);
    assert_eq!(decoder.next_frame(), Ok(Some(&[1, 2, 3][..])));
}

#[test]
fn memory_follows_what_arrived_and_is_given_back() {
    let mut decoder = Decoder::new(Prefix::Four, 1 << 20);
    decoder.push(&(1u32 << 20).to_be_bytes());
    decoder.push(&[0; 1000]);
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.capacity() < 4096, "{}", decoder.capacity());
    decoder.push(&vec![0; (1 << 20) - 1000]);
    assert_eq!(decoder.next_frame().unwrap().unwrap().len(), 1 << 20);
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.capacity() <= IDLE_CAPACITY, "{}", decoder.capacity());
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn the_rest_is_what_follows_the_frames() {
    let mut decoder = Decoder::new(Prefix::Two, 10);
    decoder.push(&[0, 1, 9, 0, 0, 0, 0]);
    assert_eq!(decoder.next_frame(), Ok(Some(&[9][..])));
    assert_eq!(decoder.into_rest(), [0, 0, 0, 0]);
}

proptest! {
    /// However the stream is split, the same frames come out.
    #[test]
    fn splits_change_nothing(
        sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
        cuts in prop::collection::vec(1..64usize, 1..20),
        wide in any::<bool>(),
    ) {
        let prefix = if wide { Prefix::Four } else { Prefix::Two };
        let mut stream = Vec::new();
        for frame in &sent {
            let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
            stream.extend_from_slice(&length[4 - prefix.width()..]);
            stream.extend_from_slice(frame);
        }
        let mut decoder = Decoder::new(prefix, 300);
        let (mut got, mut rest, mut cuts) = (Vec::new(), &stream[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            decoder.push(now);
            got.extend(frames(&mut decoder).unwrap());
            rest = later;
        }
        prop_assert_eq!(got, sent);
        prop_assert_eq!(decoder.buffered(), 0);
    }
}
