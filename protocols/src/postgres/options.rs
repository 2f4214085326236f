//! Settings in the startup parameter `options`.
//!
//! Holds the splitting and the switches as PostgreSQL's command line has them. It must not know
//! which settings exist. Its invariant: what is not understood is an error that names it, never
//! dropped.

use thiserror::Error;

/// A setting and its value, both as the client wrote them.
pub type Setting = (Vec<u8>, Vec<u8>);

/// The client's options are none that a session can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// An argument that sets nothing.
    #[error("invalid command-line argument for server process: {0}")]
    Argument(String),
    /// A switch with a setting but no value.
    #[error("{0} requires a value")]
    Value(String),
}

/// The settings in order; a setting may come twice, and the last one counts.
pub fn decode(options: &[u8]) -> Result<Vec<Setting>, OptionsError> {
    let mut arguments = Arguments { rest: options };
    let mut settings = Vec::new();
    while let Some(argument) = arguments.next() {
        let setting = match argument.as_slice() {
            b"-c" => arguments.next().ok_or_else(|| invalid(&argument))?,
            [b'-', b'c', setting @ ..] => setting.to_vec(),
            [b'-', b'-', setting @ ..] if !setting.is_empty() => setting.to_vec(),
            _ => return Err(invalid(&argument)),
        };
        settings.push(decode_setting(&argument, setting)?);
    }
    Ok(settings)
}

fn decode_setting(argument: &[u8], mut setting: Vec<u8>) -> Result<Setting, OptionsError> {
    let Some(equal) = setting.iter().position(|byte| *byte == b'=') else {
        let switch = if argument.starts_with(b"--") {
            "--"
        } else {
            "-c "
        };
        let name = String::from_utf8_lossy(&setting);
        return Err(OptionsError::Value(format!("{switch}{name}")));
    };
    let value = setting.split_off(equal + 1);
    setting.pop();
    for byte in &mut setting {
        if *byte == b'-' {
            *byte = b'_';
        }
    }
    Ok((setting, value))
}

fn invalid(argument: &[u8]) -> OptionsError {
    OptionsError::Argument(String::from_utf8_lossy(argument).into_owned())
}

/// Splits at white space; a backslash takes the next byte as it is.
struct Arguments<'a> {
    rest: &'a [u8],
}

impl Iterator for Arguments<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let start = self.rest.iter().position(|byte| !is_space(*byte))?;
        let mut argument = Vec::new();
        let mut escaped = false;
        let mut len = 0;
        for &byte in &self.rest[start..] {
            if is_space(byte) && !escaped {
                break;
            }
            len += 1;
            escaped = byte == b'\\' && !escaped;
            if !escaped {
                argument.push(byte);
            }
        }
        self.rest = &self.rest[start + len..];
        Some(argument)
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, value: &str) -> Setting {
        (name.into(), value.into())
    }

    #[test]
    fn decodes_settings_when_switches_are_known() {
        let options = b" -c a.b=1  -cDate-Style=x=y --work-mem=4MB -c e= ";
        let expected = [
            setting("a.b", "1"),
            setting("Date_Style", "x=y"),
            setting("work_mem", "4MB"),
            setting("e", ""),
        ];
        assert_eq!(decode(options).unwrap(), expected);
        assert_eq!(decode(b" \t\r\n").unwrap(), []);
    }

    #[test]
    fn keeps_space_when_escaped() {
        let options = br"-c search_path=a,\ b\\c -c\ x=1";
        let expected = [setting("search_path", r"a, b\c"), setting(" x", "1")];
        assert_eq!(decode(options).unwrap(), expected);
        // A backslash at the very end has nothing to take.
        assert_eq!(decode(br"-ca=b\").unwrap(), [setting("a", "b")]);
    }

    #[test]
    fn names_argument_when_it_sets_nothing() {
        for argument in ["-e", "--", "-", "foo", "-B 5"] {
            let error = decode(format!("-c a=b {argument}").as_bytes()).unwrap_err();
            let named = argument.split(' ').next().unwrap();
            assert_eq!(error, OptionsError::Argument(named.to_owned()));
        }
        assert_eq!(
            decode(b"-c").unwrap_err(),
            OptionsError::Argument("-c".to_owned())
        );
        assert_eq!(
            decode(b"-c ab").unwrap_err(),
            OptionsError::Value("-c ab".to_owned())
        );
        assert_eq!(
            decode(b"--a-b").unwrap_err(),
            OptionsError::Value("--a-b".to_owned())
        );
    }
}
