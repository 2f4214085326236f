//! The exchange that checks a client against a verifier.
//!
//! Holds the two steps of it, strict as PostgreSQL without TLS. It must not know where the verifier
//! comes from. Its invariant: both outcomes cost the same, and a made-up verifier never passes.

use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use super::attributes::Attributes;
use super::{Key, Verifier, hmac, sha256, xor};

/// The client broke the mechanism's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScramError {
    /// The client wants to act as somebody else.
    #[error("client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    /// The client needs something that is not known here.
    #[error("client requires an unsupported SCRAM extension")]
    Extension,
    /// A message breaks the format; what about it, in words.
    #[error("malformed SCRAM message")]
    Malformed(&'static str),
    /// The final message belongs to another exchange.
    #[error("invalid SCRAM response")]
    Nonce,
}

impl ScramError {
    /// The SQLSTATE under which PostgreSQL reports this.
    pub const fn sqlstate(self) -> [u8; 5] {
        match self {
            Self::AuthorizationIdentity | Self::Extension => *b"0A000",
            Self::Malformed(_) | Self::Nonce => *b"08P01",
        }
    }

    /// More about it, for the error's detail.
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::Malformed(detail) => Some(detail),
            Self::Nonce => Some("Nonce does not match."),
            Self::AuthorizationIdentity | Self::Extension => None,
        }
    }
}

/// How an exchange ended.
#[derive(Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The client knows the password.
    Accepted {
        /// The last message, by which the client checks this side.
        server_final: Vec<u8>,
        /// What the client proved to have. With it one can log in as this user wherever the same
        /// verifier is stored; a secret like the password.
        client_key: [u8; 32],
    },
    /// The client does not know the password, or the user does not exist.
    Rejected,
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted { .. } => "Accepted(…)",
            Self::Rejected => "Rejected",
        })
    }
}

/// One exchange: the client's first message, then its final one.
#[derive(Clone)]
pub struct Exchange {
    verifier: Verifier,
    is_mock: bool,
    /// This side's half of the nonce until the first message, then both halves.
    nonce: Vec<u8>,
    /// The client's first message without its header, and the answer to it, joined by a comma.
    first_messages: Vec<u8>,
    /// What the client has to repeat of its header, once it is known.
    binding: Option<&'static [u8]>,
}

impl Exchange {
    /// An exchange against the verifier of a user. `random` must never repeat.
    pub fn new(verifier: Verifier, random: [u8; 18]) -> Self {
        Self::with_nonce(verifier, false, STANDARD.encode(random).into_bytes())
    }

    /// An exchange for a user that does not exist; it looks the same and is always rejected.
    pub fn mock(user: &[u8], seed: &[u8; 32], random: [u8; 18]) -> Self {
        let verifier = Verifier::mock(user, seed);
        Self::with_nonce(verifier, true, STANDARD.encode(random).into_bytes())
    }

    fn with_nonce(verifier: Verifier, is_mock: bool, nonce: Vec<u8>) -> Self {
        Self {
            verifier,
            is_mock,
            nonce,
            first_messages: Vec::new(),
            binding: None,
        }
    }

    /// Takes the client's first message; answers the message to send back.
    pub fn handle_client_first(&mut self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        if self.binding.is_some() {
            return Err(ScramError::Malformed("First message came twice."));
        }
        let (binding, bare) = decode_header(message)?;
        let client_nonce = decode_client_first(bare)?;
        self.nonce.splice(0..0, client_nonce.iter().copied());
        let answer = self.server_first();
        self.first_messages = [bare, &answer].join(&b',');
        self.binding = Some(binding);
        Ok(answer)
    }

    /// Takes the client's final message; ends the exchange.
    pub fn handle_client_final(self, message: &[u8]) -> Result<Verdict, ScramError> {
        let binding = self
            .binding
            .ok_or(ScramError::Malformed("First message is missing."))?;
        let last = ClientFinal::decode(message)?;
        if last.binding != binding {
            return Err(ScramError::Malformed(
                "Unexpected channel-binding attribute.",
            ));
        }
        if !bool::from(last.nonce.ct_eq(&self.nonce)) {
            return Err(ScramError::Nonce);
        }
        Ok(self.verdict(&last))
    }

    fn server_first(&self) -> Vec<u8> {
        let salt = STANDARD.encode(&self.verifier.salt);
        let mut answer = b"r=".to_vec();
        answer.extend_from_slice(&self.nonce);
        answer.extend_from_slice(format!(",s={salt},i={}", self.verifier.iterations).as_bytes());
        answer
    }

    fn verdict(&self, last: &ClientFinal<'_>) -> Verdict {
        let parts = [self.first_messages.as_slice(), b",", last.without_proof];
        let client_signature = hmac(&self.verifier.stored_key, &parts);
        let server_signature = hmac(&self.verifier.server_key, &parts);
        let client_key = xor(last.proof, client_signature);
        let is_known = Choice::from(u8::from(!self.is_mock));
        let is_right = sha256(&client_key).ct_eq(&self.verifier.stored_key) & is_known;
        let server_final = format!("v={}", STANDARD.encode(server_signature)).into_bytes();
        if bool::from(is_right) {
            Verdict::Accepted {
                server_final,
                client_key,
            }
        } else {
            Verdict::Rejected
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange(…)")
    }
}

/// The fields of a client's final message.
struct ClientFinal<'a> {
    binding: &'a [u8],
    nonce: &'a [u8],
    proof: Key,
    without_proof: &'a [u8],
}

impl<'a> ClientFinal<'a> {
    fn decode(message: &'a [u8]) -> Result<Self, ScramError> {
        check_text(message)?;
        let mut attributes = Attributes::new(message);
        let binding = attributes.expect(b'c')?;
        let nonce = attributes.expect(b'r')?;
        let proof = loop {
            match attributes.next()? {
                None => return Err(ScramError::Malformed("Proof expected.")),
                Some((b'p', proof)) => break proof,
                // Extensions that one may ignore.
                Some(_) => {}
            }
        };
        if !attributes.is_finished() {
            return Err(ScramError::Malformed(
                "Garbage found at the end of the final message.",
            ));
        }
        let without_proof = &message[..message.len() - proof.len() - b",p=".len()];
        let proof = STANDARD
            .decode(proof)
            .ok()
            .and_then(|proof| Key::try_from(proof).ok());
        let proof = proof.ok_or(ScramError::Malformed(
            "Malformed proof in the final message.",
        ))?;
        Ok(Self {
            binding,
            nonce,
            proof,
            without_proof,
        })
    }
}

/// Splits the header off: what the final message has to repeat of it, and the rest.
fn decode_header(message: &[u8]) -> Result<(&'static [u8], &[u8]), ScramError> {
    check_text(message)?;
    let (flag, rest) = message
        .split_first()
        .ok_or(ScramError::Malformed("Message is empty."))?;
    let binding: &[u8] = match flag {
        b'n' => b"biws",
        // The client could bind to a TLS channel and believes that this side cannot: true here.
        b'y' => b"eSws",
        b'p' => {
            return Err(ScramError::Malformed(
                "Channel binding without the mechanism for it.",
            ));
        }
        _ => return Err(ScramError::Malformed("Unexpected channel-binding flag.")),
    };
    match rest {
        [b',', b',', bare @ ..] => Ok((binding, bare)),
        [b',', b'a', b'=', ..] => Err(ScramError::AuthorizationIdentity),
        _ => Err(ScramError::Malformed("Comma expected.")),
    }
}

/// The client's half of the nonce. The user's name is that of the startup packet, not this one.
fn decode_client_first(bare: &[u8]) -> Result<&[u8], ScramError> {
    if bare.starts_with(b"m=") {
        return Err(ScramError::Extension);
    }
    let mut attributes = Attributes::new(bare);
    attributes.expect(b'n')?;
    let nonce = attributes.expect(b'r')?;
    if !nonce.iter().all(u8::is_ascii_graphic) {
        return Err(ScramError::Malformed("Nonce is not printable."));
    }
    // Extensions that one may ignore.
    while attributes.next()?.is_some() {}
    Ok(nonce)
}

fn check_text(message: &[u8]) -> Result<(), ScramError> {
    if message.is_empty() {
        return Err(ScramError::Malformed("Message is empty."));
    }
    if message.contains(&0) {
        return Err(ScramError::Malformed("Message holds a terminator."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    use super::*;
    use crate::postgres::authentication::scram::ITERATIONS;

    const SEED: [u8; 32] = [3; 32];

    fn verifier() -> Verifier {
        Verifier::derive(b"pencil", b"0123456789abcdef", ITERATIONS)
    }

    fn run(mut exchange: Exchange, password: &[u8], binding: ChannelBinding) -> (Verdict, bool) {
        let mut client = ScramSha256::new(password, binding);
        let first = exchange.handle_client_first(client.message()).unwrap();
        client.update(&first).unwrap();
        let verdict = exchange.handle_client_final(client.message()).unwrap();
        let is_trusted = match &verdict {
            Verdict::Accepted { server_final, .. } => client.finish(server_final).is_ok(),
            Verdict::Rejected => false,
        };
        (verdict, is_trusted)
    }

    /// The exchange of RFC 7677, section 3.
    const RFC_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const RFC_ANSWER: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const RFC_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const RFC_VERDICT: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn rfc_exchange() -> Exchange {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::derive(b"pencil", &salt, 4096);
        Exchange::with_nonce(verifier, false, b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_vec())
    }

    #[test]
    fn matches_vector_of_rfc_7677() {
        let mut exchange = rfc_exchange();
        assert_eq!(exchange.handle_client_first(RFC_FIRST).unwrap(), RFC_ANSWER);
        let verdict = exchange.handle_client_final(RFC_FINAL).unwrap();
        let Verdict::Accepted {
            server_final,
            client_key,
        } = verdict
        else {
            panic!("rejected");
        };
        assert_eq!(server_final, RFC_VERDICT);
        assert_eq!(sha256(&client_key), rfc_exchange().verifier.stored_key);
    }

    #[test]
    fn accepts_client_when_password_is_right() {
        for binding in [ChannelBinding::unsupported(), ChannelBinding::unrequested()] {
            let exchange = Exchange::new(verifier(), [9; 18]);
            let (verdict, is_trusted) = run(exchange, b"pencil", binding);
            assert!(matches!(verdict, Verdict::Accepted { .. }));
            assert!(is_trusted, "the client must accept the final message");
        }
    }

    #[test]
    fn rejects_client_when_password_is_wrong() {
        let exchange = Exchange::new(verifier(), [9; 18]);
        let (verdict, _) = run(exchange, b"pencils", ChannelBinding::unsupported());
        assert_eq!(verdict, Verdict::Rejected);
    }

    #[test]
    fn rejects_client_when_user_is_made_up() {
        let exchange = Exchange::mock(b"eve", &SEED, [9; 18]);
        let (verdict, _) = run(exchange, b"pencil", ChannelBinding::unsupported());
        assert_eq!(verdict, Verdict::Rejected);
        // Even the keys that were made up do not open it.
        let mut exchange = rfc_exchange();
        exchange.is_mock = true;
        exchange.handle_client_first(RFC_FIRST).unwrap();
        assert_eq!(
            exchange.handle_client_final(RFC_FINAL).unwrap(),
            Verdict::Rejected
        );
    }

    #[test]
    fn rejects_first_message_when_malformed() {
        let malformed: [&[u8]; 12] = [
            b"",
            b"n",
            b"x,,n=,r=abc",
            b"p=tls-server-end-point,,n=,r=abc",
            b"n,b,n=,r=abc",
            b"n,,r=abc",
            b"n,,n=",
            b"n,,n=,r=a\x7fc",
            b"n,,n=,r=abc,",
            b"n,,n=,r=abc,1=x",
            b"n,,n=,r=abc\0",
            b"n,,n,r=abc",
        ];
        for message in malformed {
            let result = rfc_exchange().handle_client_first(message);
            let text = message.escape_ascii();
            assert!(
                matches!(result, Err(ScramError::Malformed(_))),
                "{text}: {result:?}"
            );
        }
        let result = rfc_exchange().handle_client_first(b"n,a=root,n=,r=abc");
        assert_eq!(result, Err(ScramError::AuthorizationIdentity));
        let result = rfc_exchange().handle_client_first(b"n,,m=x,n=,r=abc");
        assert_eq!(result, Err(ScramError::Extension));
        assert!(
            rfc_exchange()
                .handle_client_first(b"n,,n=,r=abc,x=1,y=2")
                .is_ok()
        );
    }

    #[test]
    fn rejects_final_message_when_it_does_not_fit() {
        let check = |from: &str, to: &str| {
            let message = String::from_utf8(RFC_FINAL.to_vec())
                .unwrap()
                .replacen(from, to, 1);
            let mut exchange = rfc_exchange();
            exchange.handle_client_first(RFC_FIRST).unwrap();
            exchange.handle_client_final(message.as_bytes())
        };
        assert!(matches!(check("", ""), Ok(Verdict::Accepted { .. })));
        assert_eq!(check("r=rO", "r=rP"), Err(ScramError::Nonce));
        assert_eq!(check("$k0,", ","), Err(ScramError::Nonce));
        assert_eq!(check("p=dH", "p=dI"), Ok(Verdict::Rejected));
        // An extension is part of what is signed.
        assert_eq!(check(",p=", ",x=1,p="), Ok(Verdict::Rejected));
        for (from, to) in [
            ("biws", "eSws"),
            ("p=", "q="),
            ("VQ=", "VQ"),
            ("VQ=", "VQ=,x=1"),
            ("c=", "d="),
        ] {
            assert!(
                matches!(check(from, to), Err(ScramError::Malformed(_))),
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn rejects_messages_when_out_of_order() {
        assert!(rfc_exchange().handle_client_final(RFC_FINAL).is_err());
        let mut exchange = rfc_exchange();
        exchange.handle_client_first(RFC_FIRST).unwrap();
        assert!(exchange.handle_client_first(RFC_FIRST).is_err());
    }
}
