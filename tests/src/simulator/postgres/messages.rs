//! What each message from a client begins in a simulated session.
//!
//! Knows tags and layouts; Query and the extended messages are in files of their own. Invariant:
//! after an error in an extended message everything but Sync and Terminate is dropped.

use manifold_core::time::Instant;

use super::database::{Change, Database};
use super::report::Report;
use super::session::{Phase, Session, Source};
use super::transaction::Block;
use crate::simulator::wire::{Body, Fields, Frame, take_frame};

impl Session {
    /// Whether a complete message (or one that can never be complete) lies in the input.
    pub(super) fn has_message(&self) -> bool {
        if let Phase::Login(login) = &self.phase {
            return login.has_message(&self.input);
        }
        let Some(header) = self.input.first_chunk::<5>() else {
            return false;
        };
        let length = i32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        usize::try_from(length).is_ok_and(|length| length < 4 || self.input.len() > length)
            || length < 0
    }

    /// Takes the next message.
    pub(super) fn take_message(&mut self, now: Instant, database: &mut Database) {
        if matches!(self.phase, Phase::Login(_)) {
            self.take_login_message(database);
            return;
        }
        let frame = match take_frame(&mut self.input) {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(_) => {
                self.die(&Report::fatal("08P01", "invalid message length"), database);
                return;
            }
        };
        if matches!(self.phase, Phase::CopyIn { .. }) {
            self.take_copy_message(&frame, database);
        } else {
            self.take_request(&frame, now, database);
        }
    }

    fn take_request(&mut self, frame: &Frame, now: Instant, database: &mut Database) {
        match frame.tag {
            b'X' => self.end(database),
            b'S' => self.sync(database),
            b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'F' | b'd' | b'c' | b'f'
                if self.is_skipping => {}
            b'Q' => self.query(&frame.body, database),
            b'P' | b'B' | b'D' | b'C' | b'E' => self.extended(frame, now, database),
            b'F' => self.function_call(database),
            b'H' | b'd' | b'c' | b'f' => {}
            tag => {
                let text = format!("invalid frontend message type {tag}");
                self.die(&Report::fatal("08P01", text), database);
            }
        }
    }

    fn sync(&mut self, database: &mut Database) {
        self.is_skipping = false;
        if self.transaction.block == Block::Implicit
            && let Err(report) = self.commit(database)
        {
            report.send(&mut self.output);
        }
        self.send_ready();
    }

    /// FunctionCall: one function, which gives NULL.
    fn function_call(&mut self, database: &mut Database) {
        if self.transaction.block == Block::Failed {
            aborted().send(&mut self.output);
        } else {
            self.begin_implicit();
            Body::default().int32(-1).send(&mut self.output, b'V');
            if self.transaction.block == Block::Implicit
                && let Err(report) = self.commit(database)
            {
                report.send(&mut self.output);
            }
        }
        self.send_ready();
    }

    fn take_copy_message(&mut self, frame: &Frame, database: &mut Database) {
        let Phase::CopyIn { source, data } = &mut self.phase else {
            return;
        };
        let source = source.clone();
        match frame.tag {
            b'd' => data.extend(&frame.body),
            b'H' | b'S' => {}
            b'c' => {
                let data = core::mem::take(data);
                self.phase = Phase::Ready;
                self.end_copy(&data, source, database);
            }
            b'f' => {
                self.phase = Phase::Ready;
                let reason = Fields(&frame.body).text().unwrap_or_default();
                let text = format!("COPY from stdin failed: {reason}");
                self.fail(Report::error("57014", text), &source, database);
            }
            b'X' => self.end(database),
            tag => {
                self.phase = Phase::Ready;
                let text = format!("unexpected message type 0x{tag:02X} during COPY from stdin");
                self.fail(Report::error("08P01", text), &source, database);
            }
        }
    }

    fn end_copy(&mut self, data: &[u8], source: Source, database: &mut Database) {
        let text = String::from_utf8_lossy(data).into_owned();
        let tokens: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        for token in &tokens {
            self.log_execution(token, true, database);
            self.transaction
                .changes
                .push(Change::Token((*token).to_owned()));
        }
        let tag = format!("COPY {}", tokens.len());
        self.complete(&tag, &source, database);
    }
}

/// What everything but an exit is told in a failed transaction.
pub(super) fn aborted() -> Report {
    let text = "current transaction is aborted, commands ignored until end of transaction block";
    Report::error("25P02", text)
}
