//! Decimal integers as RESP writes them: canonical, nothing before and nothing behind.
//!
//! Stricter than a parser of a standard library, as the node's own is: no plus sign, no leading
//! zeros, no "-0".

/// The number that these bytes are, if they are one that fits.
pub fn parse(bytes: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !is_negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Counted downwards, because there is one negative number more than there are positive ones.
    let mut number: i64 = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if is_negative {
        Some(number)
    } else {
        number.checked_neg()
    }
}

/// Writes a number.
pub fn write(output: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    output.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_not_canonical() {
        let wrong: [&[u8]; 9] = [
            b"",
            b"-",
            b"-0",
            b"+1",
            b"01",
            b"1 ",
            b" 1",
            b"1a",
            b"9223372036854775808",
        ];
        for bytes in wrong {
            assert_eq!(parse(bytes), None, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(number in 0..=i64::MAX) {
            let mut written = Vec::new();
            write(&mut written, number as u64);
            prop_assert_eq!(parse(&written), Some(number));
        }

        #[test]
        fn reads_what_others_write(number: i64) {
            prop_assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }
    }
}
