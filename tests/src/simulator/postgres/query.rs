//! The simple protocol of a simulated session, and how a statement of either protocol goes on.
//!
//! Knows the order of things: locks, delay, run, commit, reply. Invariant: the last statement of a
//! Query commits before its CommandComplete.

use core::time::Duration;
use std::collections::VecDeque;

use manifold_core::time::Instant;

use super::database::Database;
use super::locks::{LockKey, Mode};
use super::messages::aborted;
use super::report::{Report, Row, send_bare, send_columns, send_complete, send_row};
use super::session::{Phase, Session, Source, Task};
use super::transaction::Block;
use crate::simulator::statement::{Advisory, Argument, Read, Sql, parse};
use crate::simulator::wire::{Body, Fields};

/// What a statement gives.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    pub tag: String,
    pub copy: Option<Copying>,
}

/// Which way a COPY goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Copying {
    In,
    Out(Vec<u8>),
}

impl Session {
    /// Query.
    pub(super) fn query(&mut self, body: &[u8], database: &mut Database) {
        self.statements.remove("");
        self.portals.remove("");
        let text = Fields(body).text().unwrap_or("'");
        match parse(text.as_bytes()) {
            Ok(statements) if statements.is_empty() => {
                send_bare(&mut self.output, b'I');
                self.send_ready();
            }
            Ok(statements) => {
                let several = statements.len() > 1;
                self.query = Some((VecDeque::from(statements), several));
            }
            Err(_) => self.fail(syntax_error(), &Source::Query, database),
        }
    }

    /// Begins the next statement of a Query.
    pub(super) fn next_of_query(&mut self, now: Instant, database: &mut Database) {
        let Some((rest, several)) = &mut self.query else {
            return;
        };
        let several = *several;
        match rest.pop_front() {
            Some(sql) => self.start(sql, None, Source::Query, several, now, database),
            None => {
                self.query = None;
                self.send_ready();
            }
        }
    }

    /// Begins a statement. `several`: it shares a Query with others.
    pub(super) fn start(
        &mut self,
        sql: Sql,
        value: Option<String>,
        source: Source,
        several: bool,
        now: Instant,
        database: &mut Database,
    ) {
        if self.transaction.block == Block::Failed && !sql.is_exit() {
            self.fail(aborted(), &source, database);
            return;
        }
        if sql.is_standalone() && (self.transaction.block == Block::Open || several) {
            let text = "statement cannot run inside a transaction block";
            self.fail(Report::error("25001", text), &source, database);
            return;
        }
        self.begin_implicit();
        let token = match sql.token() {
            Some(Argument::Literal(token)) => Some(token.clone()),
            Some(Argument::Parameter(_)) => value,
            None => None,
        };
        let until = now + database.service_time() + delay_of(&sql);
        let wait = lock_of(&sql);
        self.task = Some(Task {
            sql,
            token,
            source,
            until,
            wait,
        });
    }

    /// Goes on with a statement: it waits, fails or runs.
    pub(super) fn continue_task(&mut self, task: Task, database: &mut Database) {
        if core::mem::take(&mut self.is_cancelled) {
            let text = "canceling statement due to user request";
            if let Some((key, _)) = task.wait {
                database.locks.leave_queue(self.id, key);
            }
            self.fail(Report::error("57014", text), &task.source, database);
            return;
        }
        if let Some((key, mode)) = task.wait
            && !database.locks.acquire(self.id, key, mode)
        {
            self.task = Some(task);
            return;
        }
        if let Some(token) = &task.token {
            self.log_execution(token, is_write(&task.sql), database);
        }
        match self.run_sql(&task.sql, task.token.as_deref(), database) {
            Ok(answer) => self.answer(answer, &task.source, database),
            Err(report) => self.fail(report, &task.source, database),
        }
    }

    fn answer(&mut self, answer: Answer, source: &Source, database: &mut Database) {
        match answer.copy {
            Some(Copying::In) => {
                Body::default()
                    .raw(&[0])
                    .int16(1)
                    .int16(0)
                    .send(&mut self.output, b'G');
                self.phase = Phase::CopyIn {
                    source: source.clone(),
                    data: Vec::new(),
                };
                return;
            }
            Some(Copying::Out(line)) => {
                Body::default()
                    .raw(&[0])
                    .int16(1)
                    .int16(0)
                    .send(&mut self.output, b'H');
                Body::default().raw(&line).send(&mut self.output, b'd');
                send_bare(&mut self.output, b'c');
            }
            None => {}
        }
        match source {
            Source::Query => {
                if !answer.columns.is_empty() {
                    send_columns(&mut self.output, &answer.columns);
                    answer
                        .rows
                        .iter()
                        .for_each(|row| send_row(&mut self.output, row));
                }
                self.complete(&answer.tag, source, database);
            }
            Source::Execute { portal, rows_max } => {
                if answer.columns.is_empty() {
                    self.complete(&answer.tag, source, database);
                    return;
                }
                if let Some(portal) = self.portals.get_mut(portal) {
                    portal.rows = Some(answer.rows.into_iter().rev().collect());
                    portal.tag = answer.tag;
                }
                self.send_rows_of(portal, *rows_max);
            }
        }
    }

    /// CommandComplete, after the commit where one is due.
    pub(super) fn complete(&mut self, tag: &str, source: &Source, database: &mut Database) {
        let is_last = self.query.as_ref().is_some_and(|(rest, _)| rest.is_empty());
        if *source == Source::Query
            && is_last
            && self.transaction.block == Block::Implicit
            && let Err(report) = self.commit(database)
        {
            self.fail(report, source, database);
            return;
        }
        send_complete(&mut self.output, tag);
    }

    /// An error: what is left of the request is dropped.
    pub(super) fn fail(&mut self, report: Report, source: &Source, database: &mut Database) {
        report.send(&mut self.output);
        self.fail_transaction(database);
        match source {
            Source::Query => {
                self.query = None;
                self.send_ready();
            }
            Source::Execute { .. } => self.is_skipping = true,
        }
    }

    /// A notice or warning, unless the session does not want to hear of it.
    pub(super) fn notice(&mut self, report: &Report) {
        let wanted = self
            .settings
            .value("client_min_messages")
            .unwrap_or_default();
        let is_wanted = match report.severity {
            "WARNING" => wanted != "error",
            _ => wanted == "notice",
        };
        if is_wanted {
            report.send(&mut self.output);
        }
    }
}

pub(super) fn syntax_error() -> Report {
    Report::error("42601", "syntax error")
}

fn delay_of(sql: &Sql) -> Duration {
    match sql {
        Sql::Read {
            read: Read::Slow(wait_ms) | Read::Crawl(wait_ms),
            ..
        } => Duration::from_millis(u64::from(*wait_ms)),
        _ => Duration::ZERO,
    }
}

fn lock_of(sql: &Sql) -> Option<(LockKey, Mode)> {
    match sql {
        Sql::Touch { row, .. } => Some((LockKey::Row(*row), Mode::Exclusive)),
        Sql::Lock => Some((LockKey::Board, Mode::Exclusive)),
        Sql::Read {
            read: Read::Board, ..
        } => Some((LockKey::Board, Mode::Shared)),
        Sql::Advisory {
            act: Advisory::Lock,
            key,
        } => Some((LockKey::Advisory(*key), Mode::Exclusive)),
        _ => None,
    }
}

/// Whether a statement writes anything that outlives its session.
pub(super) fn is_write(sql: &Sql) -> bool {
    !matches!(
        sql,
        Sql::Read { .. } | Sql::CopyOut { .. } | Sql::FillTemp { .. } | Sql::Declare { .. }
    )
}
