//! Moments as Patroni writes them: `2026-11-22T12:49:26.279001+00:00`.
//!
//! Pure. Invariant: what is no moment is none, however it looks.

use std::time::{Duration, SystemTime};

/// Reads a moment of ISO 8601 with an offset from UTC. Fractions of a second are left out.
pub fn parse(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', ' '])?;
    let mut date = date.splitn(3, '-').map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let clock_end = rest.find(['+', '-', 'Z']).unwrap_or(rest.len());
    let (clock, offset) = rest.split_at(clock_end);
    let mut clock = clock.split('.').next()?.splitn(3, ':').map(digits);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let is_fit = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_fit {
        return None;
    }
    let local = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    let seconds = local - offset_seconds(offset)?;
    let since = Duration::from_secs(u64::try_from(seconds).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

fn digits(text: &str) -> Option<i64> {
    let is_number = text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// `Z`, `+02:00`, or `+0200`; nothing is UTC.
fn offset_seconds(text: &str) -> Option<i64> {
    let (sign, rest) = match text.as_bytes().first() {
        None | Some(b'Z') => return Some(0),
        Some(b'-') => (-1, &text[1..]),
        Some(_) => (1, &text[1..]),
    };
    let rest = rest.replace(':', "");
    let hours = digits(rest.get(..2)?)?;
    let minutes = digits(rest.get(2..4).unwrap_or("0"))?;
    Some(sign * (hours * 3_600 + minutes * 60))
}

/// Days from 1970 on. A year begins in March here, so that the odd day is its last one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_moments() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00+00:00", 951_825_600),
            ("2026-11-22T12:49:26.279001+00:00", 1_795_351_766),
            ("2026-11-22T14:49:26+02:00", 1_795_351_766),
            ("2026-11-22 07:49:26-0500", 1_795_351_766),
            ("2026-11-22T12:49:26", 1_795_351_766),
        ] {
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_garbage() {
        for text in [
            "",
            "T",
            "2026",
            "2026-11-22",
            "2026-13-22T00:00:00Z",
            "2026-11-22T25:00:00Z",
            "2026-11-22T00:00:00+x",
            "2026-11-22T00:00:00+é0",
            "1960-01-01T00:00:00Z",
            "+026-11-22T00:00:00Z",
            "1970-01-01T00:00:00+01:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
