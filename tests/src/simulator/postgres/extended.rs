//! The extended protocol of a simulated session: Parse, Bind, Describe, Execute, Close.
//!
//! Knows names of statements and portals. Invariant: an error here drops everything until Sync.

use manifold_core::time::Instant;

use super::database::Database;
use super::messages::aborted;
use super::report::{Report, send_bare, send_columns, send_complete, send_row};
use super::session::{Portal, Prepared, Session, Source};
use super::transaction::Block;
use crate::simulator::statement::{Sql, parse};
use crate::simulator::wire::{Body, Fields, Frame};

const TEXT_OID: i32 = 25;

/// What a statement is told whose columns are others than when it was prepared.
pub const STALE_PLAN: &str = "cached plan must not change result type";

impl Session {
    /// Takes one extended message.
    pub(super) fn extended(&mut self, frame: &Frame, now: Instant, database: &mut Database) {
        if matches!(frame.tag, b'P' | b'B' | b'E') {
            self.begin_implicit();
        }
        let fields = Fields(&frame.body);
        let done = match frame.tag {
            b'P' => self.parse(fields, database),
            b'B' => self.bind(fields, database),
            b'D' => self.describe(fields, database),
            b'C' => self.close(fields),
            _ => self.execute(fields, now, database),
        };
        if let Err(report) = done {
            report.send(&mut self.output);
            self.fail_transaction(database);
            self.is_skipping = true;
        }
    }

    fn parse(&mut self, mut fields: Fields<'_>, database: &Database) -> Result<(), Report> {
        let name = fields.text().ok_or_else(malformed)?;
        let text = fields.text().ok_or_else(malformed)?;
        let count = fields.int16().ok_or_else(malformed)?;
        let types: Option<Vec<i32>> = (0..count).map(|_| fields.int32()).collect();
        let mut types = types.ok_or_else(malformed)?;
        let mut parsed = parse(text.as_bytes()).map_err(|_| super::query::syntax_error())?;
        if parsed.len() > 1 {
            let text = "cannot insert multiple commands into a prepared statement";
            return Err(Report::error("42601", text));
        }
        let sql = parsed.pop();
        if self.transaction.block == Block::Failed && !sql.as_ref().is_some_and(Sql::is_exit) {
            return Err(aborted());
        }
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(name) {
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(Report::error("42P05", text));
        }
        let wanted = sql.as_ref().map_or(0, Sql::parameters).max(types.len());
        types.resize(wanted, 0);
        types
            .iter_mut()
            .filter(|oid| **oid == 0)
            .for_each(|oid| *oid = TEXT_OID);
        let columns = sql
            .as_ref()
            .map_or_else(Vec::new, |sql| self.columns_of(sql, database));
        self.statements.insert(
            name.to_owned(),
            Prepared {
                sql,
                columns,
                types,
            },
        );
        send_bare(&mut self.output, b'1');
        Ok(())
    }

    fn bind(&mut self, mut fields: Fields<'_>, database: &Database) -> Result<(), Report> {
        let portal = fields.text().ok_or_else(malformed)?;
        let name = fields.text().ok_or_else(malformed)?;
        let formats = fields.int16().ok_or_else(malformed)?;
        for _ in 0..formats {
            fields.int16().ok_or_else(malformed)?;
        }
        let count = fields.int16().ok_or_else(malformed)?;
        let mut values = Vec::new();
        for _ in 0..count {
            let value = fields.sized().ok_or_else(malformed)?;
            values.push(value.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
        }
        let prepared = self.prepared(name)?.clone();
        if values.len() != prepared.types.len() {
            let text = format!(
                "bind message supplies {} parameters, but prepared statement \"{name}\" requires {}",
                values.len(),
                prepared.types.len()
            );
            return Err(Report::error("08P01", text));
        }
        let is_exit = prepared.sql.as_ref().is_some_and(Sql::is_exit);
        if self.transaction.block == Block::Failed && !is_exit {
            return Err(aborted());
        }
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return Err(Report::error(
                "42P03",
                format!("cursor \"{portal}\" already exists"),
            ));
        }
        self.check_plan(&prepared, database)?;
        let number = prepared.sql.as_ref().map_or(0, Sql::parameters);
        let token = number
            .checked_sub(1)
            .and_then(|at| values.get(at).cloned().flatten());
        let Prepared { sql, .. } = prepared;
        let columns = sql
            .as_ref()
            .map_or_else(Vec::new, |sql| self.columns_of(sql, database));
        let portal_made = Portal {
            sql,
            columns,
            token,
            rows: None,
            tag: String::new(),
        };
        self.portals.insert(portal.to_owned(), portal_made);
        send_bare(&mut self.output, b'2');
        Ok(())
    }

    /// A plan made before its columns changed does not run.
    pub(super) fn check_plan(
        &self,
        prepared: &Prepared,
        database: &Database,
    ) -> Result<(), Report> {
        let sql = prepared.sql.as_ref().filter(|sql| sql.is_planned());
        if self.renews_plans
            || sql.is_none_or(|sql| self.columns_of(sql, database) == prepared.columns)
        {
            return Ok(());
        }
        Err(Report::error("0A000", STALE_PLAN))
    }

    pub(super) fn prepared(&self, name: &str) -> Result<&Prepared, Report> {
        self.statements.get(name).ok_or_else(|| {
            let text = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            Report::error("26000", text)
        })
    }

    fn portal(&self, name: &str) -> Result<&Portal, Report> {
        let missing = || Report::error("34000", format!("portal \"{name}\" does not exist"));
        self.portals.get(name).ok_or_else(missing)
    }

    fn describe(&mut self, mut fields: Fields<'_>, database: &Database) -> Result<(), Report> {
        let kind = fields.byte().ok_or_else(malformed)?;
        let name = fields.text().ok_or_else(malformed)?;
        let is_failed = self.transaction.block == Block::Failed;
        let columns = if kind == b'S' {
            let prepared = self.prepared(name)?.clone();
            if is_failed && !prepared.columns.is_empty() {
                return Err(aborted());
            }
            self.check_plan(&prepared, database)?;
            let count = i16::try_from(prepared.types.len()).map_err(|_| malformed())?;
            let body = Body::default().int16(count);
            let body = prepared
                .types
                .iter()
                .fold(body, |body, &oid| body.int32(oid));
            body.send(&mut self.output, b't');
            match &prepared.sql {
                Some(sql) if self.renews_plans => self.columns_of(sql, database),
                _ => prepared.columns,
            }
        } else {
            let columns = self.portal(name)?.columns.clone();
            if is_failed && !columns.is_empty() {
                return Err(aborted());
            }
            columns
        };
        if columns.is_empty() {
            send_bare(&mut self.output, b'n');
        } else {
            send_columns(&mut self.output, &columns);
        }
        Ok(())
    }

    fn close(&mut self, mut fields: Fields<'_>) -> Result<(), Report> {
        let kind = fields.byte().ok_or_else(malformed)?;
        let name = fields.text().ok_or_else(malformed)?;
        if kind == b'S' {
            self.statements.remove(name);
        } else {
            self.portals.remove(name);
        }
        send_bare(&mut self.output, b'3');
        Ok(())
    }

    fn execute(
        &mut self,
        mut fields: Fields<'_>,
        now: Instant,
        database: &mut Database,
    ) -> Result<(), Report> {
        let name = fields.text().ok_or_else(malformed)?.to_owned();
        let rows_max = fields.int32().ok_or_else(malformed)?;
        let rows_max = usize::try_from(rows_max).unwrap_or(0);
        let portal = self.portal(&name)?.clone();
        if portal.rows.is_some() {
            self.send_rows_of(&name, rows_max);
            return Ok(());
        }
        let Some(sql) = portal.sql else {
            send_bare(&mut self.output, b'I');
            return Ok(());
        };
        if portal.tag == "ran" {
            let text = format!("portal \"{name}\" cannot be run");
            return Err(Report::error("55000", text));
        }
        if portal.columns.is_empty()
            && let Some(portal) = self.portals.get_mut(&name)
        {
            "ran".clone_into(&mut portal.tag);
        }
        let source = Source::Execute {
            portal: name,
            rows_max,
        };
        self.start(sql, portal.token, source, false, now, database);
        Ok(())
    }

    /// Sends rows of a portal that has run, as many as are asked for.
    pub(super) fn send_rows_of(&mut self, name: &str, rows_max: usize) {
        let Some(portal) = self.portals.get_mut(name) else {
            return;
        };
        let Some(rows) = &mut portal.rows else { return };
        let mut sent = 0usize;
        while rows_max == 0 || sent < rows_max {
            let Some(row) = rows.pop() else { break };
            send_row(&mut self.output, &row);
            sent += 1;
        }
        if sent == rows_max && rows_max > 0 {
            send_bare(&mut self.output, b's');
            return;
        }
        let tag = match portal.tag.strip_prefix("SELECT") {
            Some(_) => format!("SELECT {sent}"),
            None => portal.tag.clone(),
        };
        send_complete(&mut self.output, &tag);
    }
}

fn malformed() -> Report {
    Report::error("08P01", "invalid message format")
}
