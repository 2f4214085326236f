//! Replies as nodes send them: where one ends, whatever pieces it comes in.
//!
//! A reply is passed on while it arrives, so the finder keeps no byte of it: one number says how
//! many values are still to come, whatever the nesting. Source: the specifications of RESP2 and
//! RESP3. Invariant: it never looks beyond the end of a reply.

/// What came is no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("what came is no reply")]
pub struct Malformed;

/// How far a piece of bytes goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// How many of the bytes belong to the reply.
    pub len: usize,
    /// Whether it ends with them.
    pub is_end: bool,
}

/// Finds the end of one reply after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finder {
    /// Values still to be begun, beside the one at hand; of no meaning between replies.
    values: u64,
    /// Bytes of the bulk at hand still to come, its line end included.
    skip: u64,
    /// The number in the line at hand so far, negative numbers included.
    number: Option<u64>,
    /// What the line at hand is; none between values.
    kind: Option<u8>,
    is_negative: bool,
    /// Whether the line at hand has had its carriage return.
    is_ending: bool,
    /// Whether a reply has begun.
    is_begun: bool,
}

/// More than this is no count and no length of anything that a node sends.
const NUMBER_MAX: u64 = 1 << 40;

impl Finder {
    /// Whether the last reply has ended and nothing of the next has come.
    pub fn is_between(&self) -> bool {
        !self.is_begun
    }

    /// Looks at the bytes that came next. At least one.
    pub fn find(&mut self, bytes: &[u8]) -> Result<Progress, Malformed> {
        let mut at = 0;
        if !self.is_begun {
            *self = Self {
                is_begun: true,
                values: 1,
                ..Self::default()
            };
        }
        loop {
            if self.skip > 0 {
                let len = self.skip.min((bytes.len() - at) as u64);
                self.skip -= len;
                at += len as usize;
                if self.skip > 0 {
                    return Ok(Progress {
                        len: at,
                        is_end: false,
                    });
                }
            } else if self.kind.is_some() {
                let (len, is_over) = self.look_at_line(&bytes[at..])?;
                at += len;
                if !is_over {
                    return Ok(Progress {
                        len: at,
                        is_end: false,
                    });
                }
                continue;
            }
            if self.values == 0 {
                self.is_begun = false;
                return Ok(Progress {
                    len: at,
                    is_end: true,
                });
            }
            let Some(&kind) = bytes.get(at) else {
                return Ok(Progress {
                    len: at,
                    is_end: false,
                });
            };
            self.begin_line(kind)?;
            at += 1;
        }
    }

    fn begin_line(&mut self, kind: u8) -> Result<(), Malformed> {
        self.number = None;
        self.is_negative = false;
        self.is_ending = false;
        self.kind = Some(kind);
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' | b'$' | b'=' | b'!' | b'*' | b'~'
            | b'%' | b'>' => self.values -= 1,
            // An attribute comes before a value and is none.
            b'|' => {}
            _ => return Err(Malformed),
        }
        Ok(())
    }

    /// Goes on in the line at hand. Says how many bytes and whether it is over.
    fn look_at_line(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        if self.is_ending {
            return match bytes.first() {
                None => Ok((0, false)),
                Some(b'\n') => {
                    self.end_line()?;
                    Ok((1, true))
                }
                Some(_) => Err(Malformed),
            };
        }
        let end = bytes.iter().position(|&byte| byte == b'\r');
        let line = &bytes[..end.unwrap_or(bytes.len())];
        if self.has_number() {
            self.read_number(line)?;
        }
        match end {
            None => Ok((line.len(), false)),
            Some(end) => {
                self.is_ending = true;
                let (len, is_over) = self.look_at_line(&bytes[end + 1..])?;
                Ok((end + 1 + len, is_over))
            }
        }
    }

    fn has_number(&self) -> bool {
        matches!(
            self.kind,
            Some(b'$' | b'=' | b'!' | b'*' | b'~' | b'%' | b'>' | b'|')
        )
    }

    fn read_number(&mut self, digits: &[u8]) -> Result<(), Malformed> {
        for &byte in digits {
            match byte {
                b'-' if self.number.is_none() && !self.is_negative => self.is_negative = true,
                b'0'..=b'9' => {
                    let number = self.number.unwrap_or(0) * 10 + u64::from(byte - b'0');
                    if number > NUMBER_MAX {
                        return Err(Malformed);
                    }
                    self.number = Some(number);
                }
                _ => return Err(Malformed),
            }
        }
        Ok(())
    }

    /// The line at hand is over: what follows from its number.
    fn end_line(&mut self) -> Result<(), Malformed> {
        let kind = self.kind.take();
        if !matches!(
            kind,
            Some(b'$' | b'=' | b'!' | b'*' | b'~' | b'%' | b'>' | b'|')
        ) {
            return Ok(());
        }
        let number = self.number.ok_or(Malformed)?;
        let number = match (kind, self.is_negative) {
            (_, false) => number,
            // RESP2's null.
            (Some(b'$' | b'*'), true) if number == 1 => return Ok(()),
            _ => return Err(Malformed),
        };
        match kind {
            Some(b'$' | b'=' | b'!') => self.skip = number + 2,
            Some(b'%' | b'|') => self.values = self.values.saturating_add(2 * number),
            _ => self.values = self.values.saturating_add(number),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REPLIES: [&[u8]; 22] = [
        b"+OK\r\n",
        b"+\r\n",
        b"-ERR no\r\n",
        b":-12\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"$5\r\na\r\nb\n\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n+x\r\n",
        b"_\r\n",
        b",3.14\r\n",
        b",inf\r\n",
        b"#t\r\n",
        b"!5\r\nERR x\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"(123456789012345678901234567890\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n_\r\n",
        b"~2\r\n+a\r\n+b\r\n",
        b">2\r\n+message\r\n+x\r\n",
        b"|1\r\n+ttl\r\n:3\r\n*1\r\n|1\r\n+a\r\n+b\r\n:1\r\n",
        b"*1\r\n>0\r\n",
    ];

    #[test]
    fn finds_the_end_of_every_kind() {
        for reply in REPLIES {
            let followed = [reply, b":1\r\n"].concat();
            let found = Finder::default().find(&followed);
            let whole = Progress {
                len: reply.len(),
                is_end: true,
            };
            assert_eq!(found, Ok(whole), "{}", reply.escape_ascii());
        }
    }

    #[test]
    fn finds_the_end_when_it_comes_byte_by_byte() {
        for reply in REPLIES {
            let mut finder = Finder::default();
            assert!(finder.is_between());
            for (place, byte) in reply.iter().enumerate() {
                let progress = finder.find(&[*byte]).map(|it| (it.len, it.is_end));
                let is_last = place + 1 == reply.len();
                assert_eq!(progress, Ok((1, is_last)), "{}", reply.escape_ascii());
                assert_eq!(finder.is_between(), is_last);
            }
        }
    }

    #[test]
    fn refuses_what_is_no_reply() {
        let wrong: [&[u8]; 8] = [
            b"x",
            b"\r\n",
            b"$a\r\n",
            b"$-2\r\n",
            b"%-1\r\n",
            b"*\r\n",
            b"+a\rb",
            b"$99999999999999\r\n",
        ];
        for bytes in wrong {
            assert_eq!(
                Finder::default().find(bytes),
                Err(Malformed),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    proptest! {
        #[test]
        fn never_goes_beyond_what_is_there(bytes in prop::collection::vec(
            prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), b'0'..=b'3', any::<u8>()],
            1..60,
        )) {
            if let Ok(progress) = Finder::default().find(&bytes) {
                prop_assert!(progress.len <= bytes.len());
                prop_assert!(progress.is_end || progress.len == bytes.len());
            }
        }
    }
}
