//! Patterns as PSUBSCRIBE, KEYS and SCAN take them.
//!
//! Knows bytes only. Source of what a pattern means: `stringmatchlen` in `util.c` of redis-server
//! 7.0.15. Invariant: its time is bounded by the product of both lengths.

/// Whether a pattern fits all of a text.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        // As a node sees it, not even a star fits nothing.
        return pattern.is_empty();
    }
    let (mut at, mut place) = (0, 0);
    // Behind the last star, and where in the text it was tried last.
    let mut star = None;
    while place < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, place));
        } else if let Some(len) = fits(&pattern[at..], text[place]) {
            at += len;
            place += 1;
        } else if let Some((behind, tried)) = &mut star {
            *tried += 1;
            (at, place) = (*behind, *tried);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// How long the first part of a pattern is, if it fits a byte.
fn fits(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => fits_class(class, byte).map(|len| len + 1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
    }
}

/// How long a class is, its closing bracket included, if it has the byte. One that is not closed
/// ends with the pattern.
fn fits_class(class: &[u8], byte: u8) -> Option<usize> {
    let is_negated = class.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut has = false;
    loop {
        match &class[at..] {
            [] => break,
            [b'\\', escaped, ..] => {
                has |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [one, b'-', other, ..] => {
                has |= (*one.min(other)..=*one.max(other)).contains(&byte);
                at += 3;
            }
            [one, ..] => {
                has |= *one == byte;
                at += 1;
            }
        }
    }
    (has != is_negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_what_a_node_fits() {
        let fitting = [
            ("*", "a"),
            ("a*", "a"),
            ("*a*b", "xaxbxb"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hbllo"),
            ("\\*", "*"),
            ("[\\]]", "]"),
            ("[a", "a"),
            ("a\\", "a\\"),
            ("a**", "ab"),
            ("[^]x", "ax"),
        ];
        for (pattern, text) in fitting {
            assert!(
                matches(pattern.as_bytes(), text.as_bytes()),
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn refuses_what_a_node_refuses() {
        let others = [
            ("*", ""),
            ("a", ""),
            ("", "a"),
            ("a?", "a"),
            ("h[^e]llo", "hello"),
            ("h[a-b]llo", "hello"),
            ("\\*", "a"),
            ("*a", "ab"),
            ("[]a", "a"),
        ];
        for (pattern, text) in others {
            assert!(
                !matches(pattern.as_bytes(), text.as_bytes()),
                "{pattern} {text}"
            );
        }
    }
}
