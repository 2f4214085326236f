//! Single values as they are written in a configuration: counts, sizes, durations, words.
//!
//! Pure. Knows no key and no file. Invariant: what is read here is representable and nonzero where
//! the kind says so; which bounds make sense is the key's business.

use std::time::Duration;

use toml::de::DeValue;

/// The largest duration that is accepted: 365 days. Beyond, "for ever" was meant.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Units of size, largest first, in bytes.
const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Units of time, in nanoseconds, largest first.
const TIME_UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// Why a value was not accepted.
#[derive(Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What was found instead of what is wanted.
    pub message: String,
    /// What to write.
    pub hint: String,
}

/// A kind of value.
pub trait Value: Sized {
    /// Reads it from what stands in the file.
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal>;
}

/// A whole number from 1 to `u32::MAX`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count(pub u32);

/// A number of bytes, at least 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub usize);

/// A length of time, longer than zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Time(pub Duration);

impl Value for Count {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let hint = "write a whole number without quotes, like 20";
        let DeValue::Integer(digits) = value else {
            return Err(refuse(
                format!("expected a number, found {}", describe(value)),
                hint,
            ));
        };
        match u32::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(0) => Err(refuse("must not be 0".into(), "the smallest number is 1")),
            Ok(count) => Ok(Self(count)),
            Err(_) => Err(refuse(
                format!("{digits} is out of range"),
                "a number goes from 1 to 4294967295",
            )),
        }
    }
}

impl Value for Size {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let hint = "write a size with its unit, like \"64KiB\"";
        match value {
            DeValue::String(text) => parse_size(text).map(Self).map_err(|why| {
                refuse(
                    why,
                    "a size is a number and B, KiB, MiB or GiB, like \"64KiB\"",
                )
            }),
            _ => Err(refuse(
                format!("expected a size, found {}", describe(value)),
                hint,
            )),
        }
    }
}

impl Value for Time {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let hint = "write a duration with its unit, like \"30s\"";
        match value {
            DeValue::String(text) => parse_time(text).map(Self).map_err(|why| {
                refuse(
                    why,
                    "a duration is a number and us, ms, s, m, h or d, like \"30s\"",
                )
            }),
            _ => Err(refuse(
                format!("expected a duration, found {}", describe(value)),
                hint,
            )),
        }
    }
}

impl Value for String {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        match value {
            DeValue::String(text) if text.is_empty() => Err(refuse("must not be empty".into(), "")),
            DeValue::String(text) => Ok(text.to_string()),
            _ => Err(refuse(
                format!("expected a text, found {}", describe(value)),
                "write it in quotes",
            )),
        }
    }
}

/// Reads `64KiB`. A bare number of bytes has to say `B`, so that nobody has to guess.
fn parse_size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text, "size")?;
    let factor = SIZE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let Some((_, factor)) = factor else {
        return Err(format!("{unit:?} is not a unit of size"));
    };
    let bytes = number
        .checked_mul(*factor)
        .and_then(|bytes| usize::try_from(bytes).ok());
    match bytes {
        Some(0) => Err("must not be 0".into()),
        Some(bytes) => Ok(bytes),
        None => Err(format!("{text:?} is out of range")),
    }
}

/// Reads `30s`.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text, "duration")?;
    let Some((_, nanos)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("{unit:?} is not a unit of time"));
    };
    match number.checked_mul(*nanos).map(Duration::from_nanos) {
        Some(Duration::ZERO) => Err("must not be 0".into()),
        Some(length) if length <= TIME_MAX => Ok(length),
        _ => Err(format!("{text:?} is longer than a year")),
    }
}

/// Splits `30s` into 30 and `s`; a space between them is fine.
fn split_unit<'t>(text: &'t str, kind: &str) -> Result<(u64, &'t str), String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err(format!("{text:?} is not a {kind}"));
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(format!("{text:?} has no unit"));
    }
    match digits.parse() {
        Ok(number) => Ok((number, unit)),
        Err(_) => Err(format!("{text:?} is out of range")),
    }
}

/// A value of the wrong kind, in words.
pub fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Array(_) => "a list".into(),
        DeValue::Boolean(truth) => format!("{truth}"),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Float(_) => "a number with a fraction".into(),
        DeValue::Integer(digits) => format!("the number {digits}"),
        DeValue::String(_) => "a text".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

fn refuse(message: String, hint: &str) -> Refusal {
    Refusal {
        message,
        hint: hint.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_when_the_unit_is_known() {
        assert_eq!(parse_size("1B"), Ok(1));
        assert_eq!(parse_size("64KiB"), Ok(64 << 10));
        assert_eq!(parse_size("16 mib"), Ok(16 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
    }

    #[test]
    fn refuses_sizes_when_they_say_nothing_exact() {
        for (text, why) in [
            ("64", "\"64\" has no unit"),
            ("64KB", "\"KB\" is not a unit of size"),
            ("KiB", "\"KiB\" is not a size"),
            ("-1KiB", "\"-1KiB\" is not a size"),
            ("1.5KiB", "\".5KiB\" is not a unit of size"),
            ("0B", "must not be 0"),
            ("99999999999GiB", "\"99999999999GiB\" is out of range"),
            (
                "99999999999999999999B",
                "\"99999999999999999999B\" is out of range",
            ),
        ] {
            assert_eq!(parse_size(text), Err(why.into()), "{text}");
        }
    }

    #[test]
    fn reads_durations_when_the_unit_is_known() {
        assert_eq!(parse_time("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_time("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(parse_time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_time("5 m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_time("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(parse_time("1d"), Ok(Duration::from_secs(86_400)));
    }

    #[test]
    fn refuses_durations_when_they_say_nothing_exact() {
        for (text, why) in [
            ("30", "\"30\" has no unit"),
            ("30 seconds", "\"seconds\" is not a unit of time"),
            ("", "\"\" is not a duration"),
            ("0s", "must not be 0"),
            ("366d", "\"366d\" is longer than a year"),
            (
                "9999999999999999d",
                "\"9999999999999999d\" is longer than a year",
            ),
        ] {
            assert_eq!(parse_time(text), Err(why.into()), "{text}");
        }
    }
}
