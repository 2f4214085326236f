//! How a test logs in: startup parameters and the password exchange.
//!
//! The exchange itself is `postgres-protocol`'s. Knows nothing of what follows the login.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

use super::frames::{Frame, frame};

/// Who logs in, where and with what parameters.
#[derive(Clone, Debug)]
pub struct Login {
    /// The parameters of the startup packet, user and database among them.
    pub parameters: Vec<(String, String)>,
    /// The password, for a node that asks.
    pub password: Option<String>,
}

impl Login {
    /// A user in a database.
    pub fn new(user: &str, database: &str) -> Self {
        Self {
            parameters: Vec::new(),
            password: None,
        }
        .with("user", user)
        .with("database", database)
    }

    /// One more parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// The value of a parameter, or nothing.
    pub fn parameter(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

/// The client's side of one password exchange.
pub struct Exchange<'a> {
    /// Who logs in.
    login: &'a Login,
    /// The SCRAM exchange once it has begun.
    scram: Option<ScramSha256>,
}

impl<'a> Exchange<'a> {
    /// An exchange that has not begun.
    pub fn new(login: &'a Login) -> Self {
        Self { login, scram: None }
    }

    /// What to send in answer to an authentication frame, if anything.
    pub fn answer(&mut self, asked: &Frame) -> Option<Vec<u8>> {
        let code = u32::from_be_bytes(asked.body[..4].try_into().expect("four bytes"));
        let rest = &asked.body[4..];
        match code {
            3 => Some(frame(b'p', format!("{}\0", self.password()).as_bytes())),
            5 => Some(self.answer_md5(rest)),
            10 => Some(self.begin_scram(rest)),
            11 => {
                let scram = self.scram.as_mut().expect("SASL began");
                scram.update(rest).expect("a challenge that a node sent");
                Some(frame(b'p', scram.message()))
            }
            12 => {
                let scram = self.scram.as_mut().expect("SASL began");
                scram.finish(rest).expect("the node knows the password too");
                None
            }
            0 => None,
            other => panic!("unexpected authentication request {other}"),
        }
    }

    /// The answer to a salted challenge.
    fn answer_md5(&self, salt: &[u8]) -> Vec<u8> {
        let salt = salt.try_into().expect("a salt of four bytes");
        let user = self.login.parameter("user");
        let hash = md5_hash(user.as_bytes(), self.password().as_bytes(), salt);
        frame(b'p', format!("{hash}\0").as_bytes())
    }

    /// The first message of SCRAM.
    fn begin_scram(&mut self, mechanisms: &[u8]) -> Vec<u8> {
        let offered = String::from_utf8_lossy(mechanisms);
        assert!(
            offered.split('\0').any(|name| name == SCRAM_SHA_256),
            "offered: {offered}"
        );
        let password = self.password().as_bytes();
        let scram = ScramSha256::new(password, ChannelBinding::unsupported());
        let message = scram.message();
        let length = u32::try_from(message.len()).expect("short");
        let body = [
            SCRAM_SHA_256.as_bytes(),
            b"\0",
            &length.to_be_bytes(),
            message,
        ]
        .concat();
        self.scram = Some(scram);
        frame(b'p', &body)
    }

    /// The password, or one that is wrong.
    fn password(&self) -> &str {
        self.login
            .password
            .as_deref()
            .unwrap_or("no password was given")
    }
}
