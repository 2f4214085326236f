//! The simulated classifier: what a text of the language does, in the words of `proof`.
//!
//! Knows the language and nothing of sessions. Invariant: it never calls a statement safer than it
//! is; it may call one `Opaque` that is not, as the real one does with what it cannot read.

use manifold_core::proof::{Reason, Scope, Setting, Statement, Verdict};

use super::prng::Prng;
use super::statement::{Advisory, Read, Sql, parse};

/// Judges texts.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// In a thousand texts, how many are called `Opaque` for no reason.
    pub doubts: u32,
    prng: Prng,
}

impl Classifier {
    /// A classifier that doubts so often.
    pub fn new(doubts: u32, prng: Prng) -> Self {
        Self { doubts, prng }
    }

    /// What a text does.
    pub fn judge(&mut self, text: &[u8]) -> Verdict {
        let is_doubted = self.prng.chance(self.doubts);
        let Ok(parsed) = parse(text) else {
            return Verdict::opaque(Reason::Syntax);
        };
        // The real one doubts functions and tables, never what consists of keywords.
        if is_doubted && !parsed.iter().all(is_reset) {
            return Verdict::opaque(Reason::CatalogUnknown);
        }
        let statements: Box<[Statement]> = parsed.iter().map(judge).collect();
        let scope = if parsed.iter().all(is_shape) {
            Scope::Shape
        } else {
            Scope::Text
        };
        Verdict {
            statements,
            scope,
            freezes: false,
        }
    }
}

fn is_reset(sql: &Sql) -> bool {
    matches!(
        sql,
        Sql::CloseAll
            | Sql::DeallocateAll
            | Sql::DiscardAll
            | Sql::Reset(_)
            | Sql::ResetAll
            | Sql::UnlistenAll
    )
}

/// Whether the literals of a statement do not matter to what it does.
fn is_shape(sql: &Sql) -> bool {
    let names_setting = matches!(
        sql,
        Sql::Read {
            read: Read::Seen(_),
            ..
        }
    );
    !names_setting
        && matches!(
            sql,
            Sql::Read { .. }
                | Sql::Insert { .. }
                | Sql::Late { .. }
                | Sql::Touch { .. }
                | Sql::Do { .. }
                | Sql::CopyOut { .. }
        )
}

fn judge(sql: &Sql) -> Statement {
    match sql {
        Sql::Read {
            read: Read::Slow(_),
            ..
        } => Statement::ReadWaiting,
        // Shared requests may run under another client's name; who looks at it is not shared.
        Sql::Read {
            read: Read::Seen(name),
            ..
        } if name == "application_name" => Statement::ReadWaiting,
        Sql::Read { .. } => Statement::Read,
        Sql::Insert { .. } | Sql::Late { .. } | Sql::Touch { .. } => Statement::Write,
        Sql::Alter { .. } => Statement::Define,
        Sql::Vacuum => Statement::Standalone,
        Sql::Do { .. } => Statement::Call,
        Sql::CopyIn | Sql::CopyOut { .. } => Statement::Copy,
        Sql::Begin => Statement::Begin,
        Sql::Commit { chain: false } | Sql::Rollback { chain: false } => Statement::End,
        Sql::Commit { chain: true }
        | Sql::Rollback { chain: true }
        | Sql::Savepoint(_)
        | Sql::Release(_)
        | Sql::RollbackTo(_)
        | Sql::Lock
        | Sql::Fetch(_)
        | Sql::CloseCursor(_)
        | Sql::Set {
            local: true,
            call: false,
            ..
        } => Statement::Inside,
        Sql::Declare { hold, .. } if !*hold => Statement::Inside,
        Sql::Declare { .. } => Statement::Opaque(Reason::HoldCursor),
        Sql::Set {
            name,
            value,
            local: false,
            call: false,
        } => Statement::Set(Setting {
            name: name.as_str().into(),
            value: value.as_bytes().into(),
        }),
        Sql::Set {
            name,
            value,
            local: false,
            call: true,
        } => Statement::SetConfig(Setting {
            name: name.as_str().into(),
            value: value.as_bytes().into(),
        }),
        Sql::Set { local: true, .. } | Sql::Current(_) => Statement::Opaque(Reason::SessionState),
        Sql::Hide(_) => Statement::Opaque(Reason::Object),
        Sql::Reset(name) => Statement::Reset(name.as_str().into()),
        Sql::ResetAll => Statement::ResetAll,
        Sql::Show(name) => Statement::Show(name.as_str().into()),
        Sql::DiscardAll => Statement::DiscardAll,
        Sql::DeallocateAll => Statement::DeallocateAll,
        Sql::CloseAll => Statement::CloseAll,
        Sql::UnlistenAll => Statement::UnlistenAll,
        Sql::CreateTemp(_) | Sql::FillTemp { .. } | Sql::ReadTemp(_) | Sql::DropTemp(_) => {
            Statement::Opaque(Reason::Temporary)
        }
        Sql::Advisory {
            act: Advisory::Lock | Advisory::Try | Advisory::Unlock,
            ..
        } => Statement::Opaque(Reason::AdvisoryLock),
        Sql::UnlockAll => Statement::UnlockAll,
        Sql::Listen(_) | Sql::Unlisten(_) | Sql::Notify { .. } => Statement::Opaque(Reason::Listen),
        Sql::Prepare { .. } | Sql::Execute { .. } | Sql::Deallocate(_) => {
            Statement::Opaque(Reason::Prepare)
        }
        Sql::Pid => Statement::Opaque(Reason::SessionState),
        Sql::Catalog | Sql::CatalogVersion => Statement::Opaque(Reason::Unrecognised),
    }
}

/// Whether the lines of a catalog are what the simulated node sends.
pub fn understands(lines: &[u8]) -> bool {
    let text = String::from_utf8_lossy(lines);
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.starts_with("epoch ")) && lines.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_several_statements_in_order() {
        let mut classifier = Classifier::new(0, Prng::new(1));
        let verdict = classifier.judge(b"BEGIN; INSERT INTO ledger VALUES ('c1-1'); COMMIT");
        let expected = [Statement::Begin, Statement::Write, Statement::End];
        assert_eq!(&*verdict.statements, expected);
        assert_eq!(verdict.scope, Scope::Text);
    }

    #[test]
    fn calls_unknown_text_opaque() {
        let mut classifier = Classifier::new(0, Prng::new(1));
        assert_eq!(
            classifier.judge(b"SELECT secret()"),
            Verdict::opaque(Reason::Syntax)
        );
    }
}
