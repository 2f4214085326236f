//! What a verdict means for scheduling: the class of a statement and what it leaves behind.
//!
//! Pure derivation, made once per text. Invariant: the class of several statements is that of the
//! most demanding one, and whatever is not positively harmless is `Exclusive`.

use std::sync::Arc;

use crate::proof::{Reason, Statement, Verdict};

/// The class of a request. Ordered: the later, the more a request asks for.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// Proven read-only and stateless: others may follow it in the pipe.
    #[default]
    Share,
    /// Stateless, but slow, unknown or writing: nobody else's request follows until it is answered.
    Tail,
    /// Needs a lease.
    Exclusive,
}

/// What is derived from a verdict.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What the text does, statement by statement.
    pub verdict: Arc<Verdict>,
    /// What it asks for by its kind; history may ask for more.
    pub class: Class,
    /// What it asks for where the whole of its transaction is sent at once.
    pub class_inside: Class,
    /// Whether it may write: then it starts on an empty pipe and is never run twice.
    pub writes: bool,
    /// Whether verdicts that rest on the catalog are void afterwards.
    pub defines: bool,
    /// Why the session keeps its upstream afterwards, if it does.
    pub keeps: Option<Reason>,
    /// Whether it sets or resets session settings.
    pub sets: bool,
    /// Whether it may draw from a sequence, whose last value belongs to the session.
    pub draws: bool,
    /// Whether it may commit before it ends (CALL, DO, several statements), so that even an error
    /// does not prove that nothing happened.
    pub commits_early: bool,
}

impl Profile {
    /// Derives the profile of a verdict.
    pub fn new(verdict: &Arc<Verdict>) -> Self {
        let mut profile = Self {
            verdict: Arc::clone(verdict),
            class: Class::Share,
            class_inside: Class::Share,
            writes: false,
            defines: false,
            keeps: None,
            sets: false,
            draws: false,
            commits_early: false,
        };
        for statement in &verdict.statements {
            profile.add(statement);
        }
        let has_control = verdict.statements.iter().any(is_control);
        profile.commits_early |= has_control && verdict.statements.len() > 1;
        if profile.sets && verdict.statements.len() > 1 && profile.class < Class::Exclusive {
            // Which of the settings held for which statement is the node's business.
            profile.class = Class::Exclusive;
        }
        profile
    }

    fn add(&mut self, statement: &Statement) {
        self.draws |= matches!(
            statement,
            Statement::Write | Statement::Copy | Statement::Call | Statement::Opaque(_)
        );
        let (class, writes) = match statement {
            Statement::Read => (Class::Share, false),
            Statement::ReadWaiting | Statement::UnlockAll => (Class::Tail, false),
            // Shown is what holds for this very session, `application_name` included, which is set
            // ahead of Tail requests only.
            Statement::Show(_) => (Class::Tail, false),
            Statement::Write => (Class::Tail, true),
            Statement::Define | Statement::Standalone => {
                self.defines = true;
                (Class::Exclusive, true)
            }
            Statement::Begin | Statement::End | Statement::Inside | Statement::Copy => {
                (Class::Exclusive, true)
            }
            Statement::Call => {
                self.commits_early = true;
                (Class::Exclusive, true)
            }
            Statement::Set(_)
            | Statement::SetConfig(_)
            | Statement::Reset(_)
            | Statement::SetDefault(_)
            | Statement::ResetAll => {
                self.sets = true;
                (Class::Tail, true)
            }
            Statement::DiscardAll
            | Statement::DeallocateAll
            | Statement::CloseAll
            | Statement::UnlistenAll => (Class::Exclusive, true),
            Statement::Opaque(reason) => {
                self.keeps = Reason::worst(self.keeps, Some(*reason));
                // Unproven text may hide anything that voids a proof.
                self.defines = true;
                self.commits_early = true;
                (Class::Exclusive, true)
            }
        };
        self.class = self.class.max(class);
        let inside = if is_control(statement) {
            Class::Tail
        } else {
            class
        };
        self.class_inside = self.class_inside.max(inside);
        self.writes |= writes;
    }

    /// The only statement of the text, if it has just one.
    pub fn single(&self) -> Option<&Statement> {
        match &*self.verdict.statements {
            [statement] => Some(statement),
            _ => None,
        }
    }
}

fn is_control(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Begin | Statement::End | Statement::Inside
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::{Residue, Scope};

    fn keeps(reasons: &[Reason]) -> Option<Reason> {
        let opaque = reasons.iter().map(|reason| Statement::Opaque(*reason));
        let verdict = Verdict {
            statements: opaque.collect(),
            scope: Scope::Text,
            freezes: false,
        };
        Profile::new(&Arc::new(verdict)).keeps
    }

    #[test]
    fn keeps_upstream_for_what_leaves_most_behind() {
        assert_eq!(keeps(&[]), None);
        let (least, more, most) = (Reason::Listen, Reason::Temporary, Reason::Process);
        assert!(least.residue() == Residue::None && more.residue() < most.residue());
        assert_eq!(keeps(&[least, most, more]), Some(most));
        assert_eq!(keeps(&[more, least]), Some(more));
        assert_eq!(keeps(&[least, Reason::Role]), Some(least));
    }
}
