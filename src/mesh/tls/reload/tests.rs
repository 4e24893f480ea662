use super::*;

#[test]
fn the_end_is_warned_of_from_a_fortnight_before() {
    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::UNIX_EPOCH + 20_000 * day;
    assert_eq!(expiry_warning(now + 15 * day, now), None);
    let text = expiry_warning(now + 14 * day - Duration::from_secs(1), now).unwrap();
    assert!(text.contains("in 13 days"), "{text}");
    let text = expiry_warning(now - day, now).unwrap();
    assert!(text.contains("expired at 2024-10-03T00:00:00Z"), "{text}");
}
