use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn one_network_is_sent_so_much_and_no_more() {
    let mut limiter = Limiter::default();
    let now = Duration::from_secs(5);
    let sent = |limiter: &mut Limiter, to: &str, now| {
        (0..10_000).filter(|_| limiter.answer(ip(to), 1000, now) == Verdict::Send).count()
    };
    assert_eq!(sent(&mut limiter, "192.0.2.7", now), BYTES_AT_ONCE as usize / 1000);
    // Its neighbour shares the allowance, which comes back with time.
    assert_eq!(limiter.answer(ip("192.0.2.200"), 1000, now), Verdict::Cut);
    assert_eq!(limiter.answer(ip("192.0.2.200"), 1000, now), Verdict::Drop);
    let later = now + Duration::from_millis(500);
    assert_eq!(sent(&mut limiter, "::ffff:192.0.2.9", later), 50);
    // Another network has its own.
    assert_eq!(limiter.answer(ip("198.51.100.7"), 1000, later), Verdict::Send);
    let long = later + Duration::from_secs(10_000_000);
    assert_eq!(sent(&mut limiter, "192.0.2.7", long), BYTES_AT_ONCE as usize / 1000);
}

#[test]
fn a_network_of_ipv6_is_one() {
    let mut limiter = Limiter::default();
    let now = Duration::ZERO;
    let mut sent = 0;
    for host in 0..10_000u32 {
        let to = IpAddr::from(Ipv6Addr::from_bits(
            (0x2001_0db8_u128 << 96) | (u128::from(host % 256) << 64) | u128::from(host),
        ));
        sent += usize::from(limiter.answer(to, 1000, now) == Verdict::Send);
    }
    assert_eq!(sent, BYTES_AT_ONCE as usize / 1000);
    assert_eq!(limiter.answer(ip("::1"), 60_000, now), Verdict::Send);
    assert_eq!(limiter.answer(ip("127.3.2.1"), 60_000, now), Verdict::Send);
}

#[test]
fn all_together_ask_so_much_and_no_more() {
    let mut limiter = Limiter::default();
    let now = Duration::from_millis(7);
    let read = |limiter: &mut Limiter, now| (0..50_000).filter(|_| limiter.query(now)).count();
    assert_eq!(read(&mut limiter, now), QUERIES_PER_SECOND as usize);
    let later = now + Duration::from_millis(100);
    assert_eq!(read(&mut limiter, later), QUERIES_PER_SECOND as usize / 10);
}

#[test]
fn what_comes_in_small_steps_comes_all_the_same() {
    let mut limiter = Limiter::default();
    let mut now = Duration::ZERO;
    while limiter.answer(ip("192.0.2.1"), 1000, now) == Verdict::Send {}
    let mut sent = 0;
    for _ in 0..1000 {
        now += Duration::from_millis(1);
        sent += u32::from(limiter.answer(ip("192.0.2.1"), 150, now) == Verdict::Send);
    }
    assert!((BYTES_PER_SECOND - 200..=BYTES_PER_SECOND).contains(&(sent * 150)), "{sent}");
}
