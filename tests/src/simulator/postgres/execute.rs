//! What each statement does in a simulated session.
//!
//! Knows the language and the session's state, not the order of messages. Invariant: a statement
//! that fails has changed nothing but what its transaction will roll back.

use std::collections::BTreeMap;

use super::database::{Change, Database, owner_of};
use super::locks::LockKey;
use super::query::{Answer, Copying};
use super::report::Report;
use super::session::{Prepared, Session};
use super::transaction::{Block, Cursor, Savepoint};
use crate::simulator::statement::{Advisory, Argument, Read, Sql};

impl Answer {
    fn tag(tag: impl Into<String>) -> Self {
        Self {
            tag: tag.into(),
            ..Self::default()
        }
    }

    fn rows(column: &str, rows: Vec<Vec<u8>>, tag: String) -> Self {
        let rows = rows.into_iter().map(|value| vec![Some(value)]).collect();
        Self {
            columns: vec![column.to_owned()],
            rows,
            tag,
            copy: None,
        }
    }

    fn row(column: &str, value: impl Into<Vec<u8>>) -> Self {
        Self::rows(column, vec![value.into()], "SELECT 1".to_owned())
    }
}

impl Session {
    /// Runs a statement.
    pub(super) fn run_sql(
        &mut self,
        sql: &Sql,
        token: Option<&str>,
        database: &mut Database,
    ) -> Result<Answer, Report> {
        let token = token.unwrap_or_default();
        match sql {
            Sql::Read { read, .. } => self.read(read, token, database),
            Sql::Insert { .. }
            | Sql::Late { .. }
            | Sql::Touch { .. }
            | Sql::Alter { .. }
            | Sql::Do { .. }
            | Sql::CopyIn => self.write(sql, token),
            Sql::CopyOut { .. } => {
                let line = format!("{token}\n").into_bytes();
                let copy = Some(Copying::Out(line));
                Ok(Answer {
                    copy,
                    ..Answer::tag("COPY 1")
                })
            }
            Sql::Lock => {
                self.need_block("LOCK TABLE")?;
                Ok(Answer::tag("LOCK TABLE"))
            }
            Sql::Vacuum => Ok(Answer::tag("VACUUM")),
            Sql::Pid => Ok(Answer::row("pg_backend_pid", self.pid.to_string())),
            Sql::Catalog | Sql::CatalogVersion => {
                Ok(Answer::row("line", format!("epoch {}", database.epoch)))
            }
            Sql::Begin
            | Sql::Commit { .. }
            | Sql::Rollback { .. }
            | Sql::Savepoint(_)
            | Sql::Release(_)
            | Sql::RollbackTo(_) => self.control(sql, database),
            Sql::Set { .. }
            | Sql::Hide(_)
            | Sql::Reset(_)
            | Sql::ResetAll
            | Sql::Show(_)
            | Sql::Current(_) => self.setting(sql),
            _ => self.private(sql, token, database),
        }
    }

    fn read(&mut self, read: &Read, token: &str, database: &Database) -> Result<Answer, Report> {
        let column = self.columns_of_read(read, database);
        let value = match read {
            Read::Fail => return Err(Report::error("22012", "division by zero")),
            Read::Big(rows) => {
                let row = |at: &u32| format!("{token}:{at}:{:x<80}", "").into_bytes();
                let rows: Vec<_> = (0..*rows).collect();
                let tag = format!("SELECT {}", rows.len());
                return Ok(Answer::rows(
                    &column[0],
                    rows.iter().map(row).collect(),
                    tag,
                ));
            }
            Read::Star(_) => {
                let rows = vec![vec![Some(token.as_bytes().to_vec()); column.len()]];
                return Ok(Answer {
                    columns: column,
                    rows,
                    tag: "SELECT 1".into(),
                    copy: None,
                });
            }
            Read::Note => {
                let text = format!("note for {token}");
                self.notice(&Report {
                    severity: "NOTICE",
                    code: "00000",
                    message: text,
                });
                token.to_owned()
            }
            Read::Seen(name) => {
                format!(
                    "{token} {name}={}",
                    self.settings.value(name).unwrap_or_default()
                )
            }
            Read::Written => {
                let client = owner_of(token);
                let own = self.transaction.changes.iter();
                let own = own
                    .filter(|change| matches!(change, Change::Token(_)))
                    .count();
                (database.written(client) + own).to_string()
            }
            Read::Token | Read::Slow(_) | Read::Crawl(_) | Read::Board => token.to_owned(),
        };
        Ok(Answer::row(&column[0], value))
    }

    fn write(&mut self, sql: &Sql, token: &str) -> Result<Answer, Report> {
        if self.transaction.read_only {
            let text = "cannot execute this statement in a read-only transaction";
            return Err(Report::error("25006", text));
        }
        if *sql == Sql::CopyIn {
            return Ok(Answer {
                copy: Some(Copying::In),
                ..Answer::default()
            });
        }
        self.transaction
            .changes
            .push(Change::Token(token.to_owned()));
        Ok(match sql {
            Sql::Insert {
                returning: true, ..
            } => Answer::rows(
                "token",
                vec![token.as_bytes().to_vec()],
                "INSERT 0 1".to_owned(),
            ),
            Sql::Insert { .. } => Answer::tag("INSERT 0 1"),
            Sql::Late { .. } => {
                self.transaction.late = true;
                Answer::tag("INSERT 0 1")
            }
            Sql::Touch { .. } => Answer::tag("UPDATE 1"),
            Sql::Alter { client, .. } => {
                self.transaction.changes.push(Change::Star(client.clone()));
                Answer::tag("ALTER TABLE")
            }
            _ => Answer::tag("DO"),
        })
    }

    fn need_block(&self, verb: &str) -> Result<(), Report> {
        if self.transaction.block == Block::Open {
            return Ok(());
        }
        Err(Report::error(
            "25P01",
            format!("{verb} can only be used in transaction blocks"),
        ))
    }

    fn control(&mut self, sql: &Sql, database: &mut Database) -> Result<Answer, Report> {
        let tag = match sql {
            Sql::Begin => {
                self.begin();
                "BEGIN"
            }
            Sql::Commit { chain } => self.finish(database, true, *chain)?,
            Sql::Rollback { chain } => self.finish(database, false, *chain)?,
            Sql::Savepoint(name) => {
                self.savepoint(Savepoint::Set, name)?;
                "SAVEPOINT"
            }
            Sql::Release(name) => {
                self.savepoint(Savepoint::Release, name)?;
                "RELEASE"
            }
            Sql::RollbackTo(name) => {
                self.savepoint(Savepoint::Return, name)?;
                "ROLLBACK"
            }
            _ => unreachable!("only transaction control comes here"),
        };
        Ok(Answer::tag(tag))
    }

    fn setting(&mut self, sql: &Sql) -> Result<Answer, Report> {
        match sql {
            Sql::Set {
                name,
                value,
                local,
                call,
            } => {
                if *local && !*call && self.transaction.block == Block::Implicit {
                    let text = "SET LOCAL can only be used in transaction blocks";
                    self.notice(&Report::warning("25P01", text));
                }
                let set = self.settings.set(name, value, *local)?;
                Ok(if *call {
                    Answer::row("set_config", set)
                } else {
                    Answer::tag("SET")
                })
            }
            Sql::Reset(name) => {
                self.settings.reset(name)?;
                Ok(Answer::tag("RESET"))
            }
            Sql::Hide(name) => {
                self.settings.reset(name)?;
                Ok(Answer::tag("DO"))
            }
            Sql::ResetAll => {
                self.settings.reset_all();
                Ok(Answer::tag("RESET"))
            }
            Sql::Current(names) => {
                let value = |name: &String| {
                    self.settings
                        .value(name)
                        .map(|value| value.as_bytes().to_vec())
                };
                let rows = vec![names.iter().map(value).collect()];
                let columns = vec!["current_setting".to_owned(); names.len()];
                Ok(Answer {
                    columns,
                    rows,
                    tag: "SELECT 1".to_owned(),
                    copy: None,
                })
            }
            Sql::Show(name) => {
                let (head, value) = self.settings.show(name)?;
                Ok(Answer {
                    tag: "SHOW".to_owned(),
                    ..Answer::row(&head, value)
                })
            }
            _ => unreachable!("only settings come here"),
        }
    }

    fn private(&mut self, sql: &Sql, token: &str, db: &mut Database) -> Result<Answer, Report> {
        match sql {
            Sql::DiscardAll => {
                self.discard_all(db);
                Ok(Answer::tag("DISCARD ALL"))
            }
            Sql::CreateTemp(_) | Sql::FillTemp { .. } | Sql::ReadTemp(_) | Sql::DropTemp(_) => {
                self.temporary(sql, token)
            }
            Sql::Advisory { act, key } => Ok(self.advisory(*act, *key, db)),
            Sql::UnlockAll => {
                self.unlock_all(db);
                Ok(Answer::row("pg_advisory_unlock_all", ""))
            }
            Sql::Listen(name) => {
                self.channels.insert(name.clone());
                Ok(Answer::tag("LISTEN"))
            }
            Sql::Unlisten(name) => {
                self.channels.remove(name);
                Ok(Answer::tag("UNLISTEN"))
            }
            Sql::UnlistenAll => {
                self.channels.clear();
                Ok(Answer::tag("UNLISTEN"))
            }
            Sql::Notify { channel, payload } => {
                let (channel, payload) = (channel.clone(), payload.clone());
                self.transaction
                    .changes
                    .push(Change::Notify { channel, payload });
                Ok(Answer::tag("NOTIFY"))
            }
            Sql::Prepare { .. } | Sql::Execute { .. } | Sql::Deallocate(_) | Sql::DeallocateAll => {
                self.prepare(sql, db)
            }
            _ => self.cursor(sql, db),
        }
    }

    fn discard_all(&mut self, database: &mut Database) {
        self.settings.reset_all();
        self.statements.clear();
        self.cursors.clear();
        self.channels.clear();
        self.temporary.clear();
        self.unlock_all(database);
    }

    fn unlock_all(&mut self, database: &mut Database) {
        self.advisory.clear();
        database
            .locks
            .release(self.id, |key| matches!(key, LockKey::Advisory(_)));
    }

    fn temporary(&mut self, sql: &Sql, token: &str) -> Result<Answer, Report> {
        let missing = |name: &str| {
            Err(Report::error(
                "42P01",
                format!("relation \"{name}\" does not exist"),
            ))
        };
        match sql {
            Sql::CreateTemp(name) if self.temporary.contains_key(name) => Err(Report::error(
                "42P07",
                format!("relation \"{name}\" already exists"),
            )),
            Sql::CreateTemp(name) => {
                self.temporary.insert(name.clone(), Vec::new());
                Ok(Answer::tag("CREATE TABLE"))
            }
            Sql::FillTemp { name, .. } => match self.temporary.get_mut(name) {
                None => missing(name),
                Some(rows) => {
                    rows.push(token.to_owned());
                    Ok(Answer::tag("INSERT 0 1"))
                }
            },
            Sql::ReadTemp(name) => match self.temporary.get(name) {
                None => missing(name),
                Some(rows) => {
                    let tag = format!("SELECT {}", rows.len());
                    let rows = rows.iter().map(|row| row.clone().into_bytes()).collect();
                    Ok(Answer::rows("token", rows, tag))
                }
            },
            Sql::DropTemp(name) => match self.temporary.remove(name) {
                None => Err(Report::error(
                    "42P01",
                    format!("table \"{name}\" does not exist"),
                )),
                Some(_) => Ok(Answer::tag("DROP TABLE")),
            },
            _ => unreachable!("only temporary tables come here"),
        }
    }

    fn advisory(&mut self, act: Advisory, key: u32, database: &mut Database) -> Answer {
        let lock = LockKey::Advisory(key);
        match act {
            Advisory::Lock => {
                *self.advisory.entry(key).or_default() += 1;
                Answer::row("pg_advisory_lock", "")
            }
            Advisory::Try => {
                let mode = super::locks::Mode::Exclusive;
                let taken = database.locks.is_free_for(self.id, lock, mode)
                    && database.locks.acquire(self.id, lock, mode);
                if taken {
                    *self.advisory.entry(key).or_default() += 1;
                }
                Answer::row("pg_try_advisory_lock", if taken { "t" } else { "f" })
            }
            Advisory::Unlock => {
                let Some(count) = self.advisory.get_mut(&key) else {
                    let text = "you don't own a lock of type ExclusiveLock";
                    self.notice(&Report::warning("01000", text));
                    return Answer::row("pg_advisory_unlock", "f");
                };
                *count -= 1;
                if *count == 0 {
                    self.advisory.remove(&key);
                    database.locks.release(self.id, |other| other == lock);
                }
                Answer::row("pg_advisory_unlock", "t")
            }
        }
    }

    fn prepare(&mut self, sql: &Sql, database: &mut Database) -> Result<Answer, Report> {
        match sql {
            Sql::Prepare { name, .. } if self.statements.contains_key(name) => {
                let text = format!("prepared statement \"{name}\" already exists");
                Err(Report::error("42P05", text))
            }
            Sql::Prepare { name, inner } => {
                let columns = self.columns_of(inner, database);
                let types = vec![25; inner.parameters()];
                let sql = Some((**inner).clone());
                self.statements.insert(
                    name.clone(),
                    Prepared {
                        sql,
                        columns,
                        types,
                    },
                );
                Ok(Answer::tag("PREPARE"))
            }
            Sql::Execute { name, values } => {
                let prepared = self.prepared(name)?.clone();
                self.check_plan(&prepared, database)?;
                if prepared.types.len() != values.len() {
                    let text =
                        format!("wrong number of parameters for prepared statement \"{name}\"");
                    return Err(Report::error("42601", text));
                }
                let Some(inner) = prepared.sql else {
                    return Ok(Answer::tag("EXECUTE"));
                };
                let token = match inner.token() {
                    Some(Argument::Literal(token)) => Some(token.clone()),
                    _ => values.first().cloned(),
                };
                if let Some(token) = &token {
                    self.log_execution(token, false, database);
                }
                self.run_sql(&inner, token.as_deref(), database)
            }
            Sql::Deallocate(name) => {
                self.prepared(name)?;
                self.statements.remove(name);
                Ok(Answer::tag("DEALLOCATE"))
            }
            _ => {
                self.statements.clear();
                Ok(Answer::tag("DEALLOCATE ALL"))
            }
        }
    }

    fn cursor(&mut self, sql: &Sql, database: &mut Database) -> Result<Answer, Report> {
        let missing =
            |name: &str| Report::error("34000", format!("cursor \"{name}\" does not exist"));
        match sql {
            Sql::Declare { name, hold, inner } => {
                if !hold {
                    self.need_block("DECLARE CURSOR")?;
                }
                if self.cursors.contains_key(name) {
                    let text = format!("cursor \"{name}\" already exists");
                    return Err(Report::error("42P03", text));
                }
                let token = match inner.token() {
                    Some(Argument::Literal(token)) => token.clone(),
                    _ => String::new(),
                };
                let mut answer = self.run_sql(inner, Some(&token), database)?;
                let rows = answer
                    .rows
                    .drain(..)
                    .rev()
                    .filter_map(|mut row| row.pop().flatten())
                    .collect();
                let column = answer.columns.pop().unwrap_or_default();
                self.cursors.insert(
                    name.clone(),
                    Cursor {
                        column,
                        rows,
                        hold: *hold,
                    },
                );
                Ok(Answer::tag("DECLARE CURSOR"))
            }
            Sql::Fetch(name) => {
                let cursor = self.cursors.get_mut(name).ok_or_else(|| missing(name))?;
                let rows: Vec<_> = cursor.rows.pop().into_iter().collect();
                let tag = format!("FETCH {}", rows.len());
                Ok(Answer::rows(&cursor.column, rows, tag))
            }
            Sql::CloseCursor(name) => {
                self.cursors.remove(name).ok_or_else(|| missing(name))?;
                Ok(Answer::tag("CLOSE CURSOR"))
            }
            _ => {
                self.cursors.clear();
                Ok(Answer::tag("CLOSE CURSOR ALL"))
            }
        }
    }

    /// The heads of a statement's columns; none for one that gives no rows.
    pub(super) fn columns_of(&self, sql: &Sql, database: &Database) -> Vec<String> {
        let one = |name: &str| vec![name.to_owned()];
        match sql {
            Sql::Read { read, .. } => self.columns_of_read(read, database),
            Sql::Insert {
                returning: true, ..
            }
            | Sql::ReadTemp(_) => one("token"),
            Sql::Show(name) => self
                .settings
                .show(name)
                .map_or_else(|_| one(name), |(head, _)| one(&head)),
            Sql::Set { call: true, .. } => one("set_config"),
            Sql::Pid => one("pg_backend_pid"),
            Sql::Catalog | Sql::CatalogVersion => one("line"),
            Sql::UnlockAll => one("pg_advisory_unlock_all"),
            Sql::Advisory {
                act: Advisory::Lock,
                ..
            } => one("pg_advisory_lock"),
            Sql::Advisory {
                act: Advisory::Try, ..
            } => one("pg_try_advisory_lock"),
            Sql::Advisory {
                act: Advisory::Unlock,
                ..
            } => one("pg_advisory_unlock"),
            Sql::Fetch(name) => self
                .cursors
                .get(name)
                .map_or_else(Vec::new, |cursor| one(&cursor.column)),
            Sql::Execute { name, .. } => self
                .statements
                .get(name)
                .map_or_else(Vec::new, |prepared| prepared.columns.clone()),
            _ => Vec::new(),
        }
    }

    fn columns_of_read(&self, read: &Read, database: &Database) -> Vec<String> {
        let name = match read {
            Read::Star(client) => {
                let more = database.stars.get(client).copied().unwrap_or_default();
                return (0..=more).map(|at| format!("star{at}")).collect();
            }
            Read::Token => "token",
            Read::Seen(_) => "seen",
            Read::Big(_) => "big",
            Read::Slow(_) => "slow",
            Read::Crawl(_) => "crawl",
            Read::Fail => "fail",
            Read::Note => "note",
            Read::Written => "written",
            Read::Board => "board",
        };
        vec![name.to_owned()]
    }

    /// Logs an execution, and notes when two clients meet where only one may be.
    pub(super) fn log_execution(&mut self, token: &str, is_write: bool, database: &mut Database) {
        database.log(token, self.id, is_write);
        let client = owner_of(token).to_owned();
        if let Some(owner) = &self.transaction.owner
            && *owner != client
        {
            let text = format!("I7: {client} runs {token} in a transaction of {owner}");
            database.violations.push(text);
        }
        self.transaction.owner = Some(client.clone());
        match (self.private_state(), &self.dirty_by) {
            (Some(state), Some(owner)) if *owner != client => {
                let text = format!("I7: {client} runs {token} beside a {state} of {owner}");
                database.violations.push(text);
            }
            (Some(_), None) => self.dirty_by = Some(client),
            (None, _) => self.dirty_by = None,
            (Some(_), Some(_)) => {}
        }
    }

    /// What is left in the session, for the checker: its settings that differ from their start.
    pub fn settings_set(&self) -> BTreeMap<&str, &str> {
        self.settings.session_values().collect()
    }
}
