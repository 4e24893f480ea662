//! Durations and sizes as EMQX writes them.

use std::time::Duration;

/// `500ms`, `1h30m`, `1.5h`, `10 seconds`; a number alone counts milliseconds, as in EMQX.
/// Letter case does not matter. `None`: no duration, or beyond 2^64 ns.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    let mut rest = text.as_str();
    let mut nanos: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (whole, fraction, tail) = number(rest)?;
        let tail = tail.trim_start();
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, after) = tail.split_at(end);
        let unit: u64 = match unit {
            // Of `5m30` nobody knows whether it ends in seconds.
            "" if rest.len() < text.len() || !after.is_empty() => return None,
            "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
            "us" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
            "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
            "s" | "second" | "seconds" => 1_000_000_000,
            "m" | "minute" | "minutes" => 60_000_000_000,
            "h" | "hour" | "hours" => 3_600_000_000_000,
            "d" | "day" | "days" => 86_400_000_000_000,
            "w" | "week" | "weeks" => 604_800_000_000_000,
            // A fortnight.
            "f" => 1_209_600_000_000_000,
            _ => return None,
        };
        let value = whole.checked_mul(unit)?.checked_add(part(fraction, unit)?)?;
        nanos = nanos.checked_add(value)?;
        rest = after.trim_start();
    }
    Some(Duration::from_nanos(nanos))
}

/// `16KB`, `1MB`, `512`; a kilobyte has 1024 bytes, as in EMQX. Letter case does not
/// matter. `None`: no size, or beyond 2^64 bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let (whole, fraction, unit) = number(&text)?;
    let unit: u64 = match unit.trim_start() {
        "" | "b" | "byte" | "bytes" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    whole.checked_mul(unit)?.checked_add(part(fraction, unit)?)
}

/// Splits `12.5rest` into 12, `5` and `rest`.
fn number(text: &str) -> Option<(u64, &str, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let whole = whole.parse().ok()?;
    let Some(behind) = rest.strip_prefix('.') else { return Some((whole, "", rest)) };
    let (fraction, rest) = behind.split_at(digits(behind));
    (!fraction.is_empty() && fraction.len() <= 9).then_some((whole, fraction, rest))
}

/// `0.fraction` of a unit, rounded down.
fn part(fraction: &str, unit: u64) -> Option<u64> {
    if fraction.is_empty() {
        return Some(0);
    }
    let digits = u32::try_from(fraction.len()).ok()?;
    let value = fraction.parse::<u128>().ok()? * u128::from(unit) / 10u128.pow(digits);
    u64::try_from(value).ok()
}
