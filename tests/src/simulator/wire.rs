//! Frames of the PostgreSQL wire as the simulated sides write and read them.
//!
//! Written apart from the `protocols` crate on purpose: what the core believes about the format is
//! checked against a second opinion. Knows no session. Invariant: `take_frame` gives back exactly
//! what `append` wrote.

/// A message with a tag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// The first byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadLength;

/// Takes the first complete frame off `input`.
pub fn take_frame(input: &mut Vec<u8>) -> Result<Option<Frame>, BadLength> {
    let Some(header) = input.first_chunk::<5>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let length = usize::try_from(length).map_err(|_| BadLength)?;
    if !(4..=1 << 26).contains(&length) {
        return Err(BadLength);
    }
    if input.len() < 1 + length {
        return Ok(None);
    }
    let frame = Frame {
        tag: input[0],
        body: input[5..=length].to_vec(),
    };
    input.drain(..=length);
    Ok(Some(frame))
}

/// Appends a frame.
pub fn append(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend(length_of(body));
    out.extend(body);
}

/// A packet without a tag: startup, cancel and the requests for encryption.
pub fn packet(body: &[u8]) -> Vec<u8> {
    let mut out = length_of(body).to_vec();
    out.extend(body);
    out
}

fn length_of(body: &[u8]) -> [u8; 4] {
    i32::try_from(body.len() + 4)
        .expect("simulated messages are small")
        .to_be_bytes()
}

/// Builds a body piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    /// Appends raw bytes.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// Appends text and its terminating zero.
    pub fn text(self, text: &str) -> Self {
        self.raw(text.as_bytes()).raw(&[0])
    }

    /// Appends 16 bits.
    pub fn int16(self, value: i16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends 32 bits.
    pub fn int32(self, value: i32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends bytes after their length.
    pub fn sized(self, bytes: &[u8]) -> Self {
        self.int32(i32::try_from(bytes.len()).expect("small"))
            .raw(bytes)
    }

    /// Appends this body as a frame.
    pub fn send(self, out: &mut Vec<u8>, tag: u8) {
        append(out, tag, &self.0);
    }
}

/// Reads a body piece by piece; `None` where it ends early.
#[derive(Clone, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// So many bytes.
    pub fn raw(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.raw(1).map(|bytes| bytes[0])
    }

    /// 16 bits.
    pub fn int16(&mut self) -> Option<i16> {
        self.raw(2)
            .map(|bytes| i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// 32 bits.
    pub fn int32(&mut self) -> Option<i32> {
        self.raw(4)
            .map(|bytes| i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Text up to its terminating zero.
    pub fn text(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let bytes = self.raw(end)?;
        self.byte()?;
        core::str::from_utf8(bytes).ok()
    }

    /// Bytes after their length; the inner `None` is NULL.
    pub fn sized(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.int32()?) {
            Ok(length) => self.raw(length).map(Some),
            Err(_) => Some(None),
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads the fields of an ErrorResponse or NoticeResponse: the values of `S`, `C` and `M`.
pub fn report_of(body: &[u8]) -> Option<[String; 3]> {
    let mut fields = Fields(body);
    let mut found: [Option<String>; 3] = [None, None, None];
    loop {
        let kind = fields.byte()?;
        if kind == 0 {
            let [severity, code, message] = found;
            return Some([severity?, code?, message?]);
        }
        let value = fields.text()?.to_owned();
        if let Some(place) = b"SCM".iter().position(|&wanted| wanted == kind) {
            found[place] = Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_back_frames_in_order_and_waits_for_the_rest() {
        let mut bytes = Vec::new();
        append(&mut bytes, b'Q', b"one\0");
        append(&mut bytes, b'S', b"");
        let mut cut = bytes[..6].to_vec();
        assert_eq!(take_frame(&mut cut), Ok(None));
        assert_eq!(take_frame(&mut bytes).unwrap().unwrap().body, b"one\0");
        assert_eq!(take_frame(&mut bytes).unwrap().unwrap().tag, b'S');
        assert!(bytes.is_empty());
        assert_eq!(take_frame(&mut vec![b'Q', 0, 0, 0, 3]), Err(BadLength));
    }

    #[test]
    fn reads_severity_code_and_message_of_a_report() {
        let body = Body::default()
            .raw(b"S")
            .text("ERROR")
            .raw(b"C")
            .text("22012");
        let body = body.raw(b"Wx\0M").text("division").raw(&[0]);
        assert_eq!(report_of(&body.0).unwrap(), ["ERROR", "22012", "division"]);
        assert_eq!(report_of(b"SERROR"), None);
    }
}
