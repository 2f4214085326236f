//! What a database holds, by the lines of the catalog query.
//!
//! Keeps the facts by name, over all schemas, because a text's names are looked up along a
//! search_path that is not known here. Invariant: a catalog that could not be read completely does
//! not exist; there is no partial one.

mod lines;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use thiserror::Error;

use super::body;
use super::findings::{Findings, Name, Trigger};
use manifold_core::proof::Reason;

/// Why the rows of the catalog query make no catalog. The node is to blame, or its version.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CatalogError {
    /// A line is not of a form that is known.
    #[error("line {line} of the catalog cannot be read: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What the decoder says.
        problem: String,
    },
    /// The first line, which says how to read the others, is missing.
    #[error("the catalog has no head")]
    NoHead,
    /// The session that read it took backslashes in literals for escapes.
    #[error("the catalog was read with standard_conforming_strings off")]
    Strings,
}

/// What a database holds.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Functions of pg_catalog by name, and whether any of the name is volatile.
    builtins: BTreeMap<Box<str>, bool>,
    /// Names of functions of pg_catalog.
    builtin_names: BTreeMap<u32, Box<str>>,
    /// Schemas that have a relation of PostgreSQL's own, by the relation's name.
    system: BTreeMap<Box<str>, Vec<Box<str>>>,
    functions: Vec<Function>,
    functions_by_oid: BTreeMap<u32, usize>,
    functions_by_name: BTreeMap<Box<str>, Vec<usize>>,
    relations: Vec<Relation>,
    relations_by_oid: BTreeMap<u32, usize>,
    relations_by_name: BTreeMap<Box<str>, Vec<usize>>,
    operators: BTreeMap<Box<str>, Vec<Operator>>,
    /// What acts without being named.
    pub(super) implicit: Vec<Implicit>,
    /// Functions of event triggers.
    pub(super) event_triggers: Vec<u32>,
    /// Some role or database starts with the temporary schema on its search_path.
    pub(super) has_temporary_path: bool,
}

/// A function that is not PostgreSQL's own, or an aggregate or a procedure.
#[derive(Debug)]
pub(super) struct Function {
    pub schema: Box<str>,
    /// Its language.
    pub language: Box<str>,
    /// Whether the catalog says that it is volatile.
    pub is_volatile: bool,
    /// Whether `(x).name` may call it.
    pub is_method: bool,
    /// Whether `x.name` of a row may call it.
    pub is_attribute: bool,
    /// Settings that hold while it runs, as `name=value`.
    pub settings: Vec<String>,
    /// Its definition, or the library that has it.
    pub source: Option<String>,
    /// Its name in that library.
    pub symbol: String,
    /// Functions that it rests on: an aggregate's, its planner support, its other names.
    pub uses: Vec<u32>,
    read: OnceLock<Result<Findings, Reason>>,
}

impl Function {
    /// What its body does.
    pub(super) fn findings(&self) -> &Result<Findings, Reason> {
        self.read.get_or_init(|| self.findings_with(&[]))
    }

    /// What its body does with transition tables of these names.
    pub(super) fn findings_with(&self, transitions: &[&str]) -> Result<Findings, Reason> {
        body::function(self.source.as_deref().unwrap_or_default(), transitions)
    }
}

/// An operator of the database's own.
#[derive(Debug)]
pub(super) struct Operator {
    pub schema: Box<str>,
    /// Its function and those that estimate for it.
    pub uses: Vec<u32>,
}

/// Functions and expressions that act without being named: of casts, types, operator classes.
#[derive(Debug)]
pub(super) struct Implicit {
    pub uses: Vec<u32>,
    pub expressions: Result<Findings, Reason>,
}

/// A table, view, sequence or the like that is not PostgreSQL's own.
#[derive(Debug)]
pub(super) struct Relation {
    pub schema: Box<str>,
    /// As in pg_class: r, p, v, m, f or S.
    pub kind: char,
    /// Row-level security is on, or there are rules.
    pub is_guarded: bool,
    /// Tables that inherit from it or are its partitions.
    pub children: Vec<u32>,
    /// Tables that refer to it, and whether what happens here is carried over to them.
    pub referrers: Vec<(u32, bool)>,
    /// What fires on writes.
    pub triggers: Vec<Trigger>,
    definition: Option<String>,
    reading: Vec<String>,
    statistics: Vec<String>,
    writing: Vec<String>,
    conditions: Vec<String>,
    queried: OnceLock<Result<Findings, Reason>>,
    read: OnceLock<Result<Findings, Reason>>,
    written: OnceLock<Result<Findings, Reason>>,
}

impl Relation {
    /// What its defining query does, if it is a view.
    pub(super) fn query(&self) -> Option<&Result<Findings, Reason>> {
        let definition = self.definition.as_deref()?;
        Some(self.queried.get_or_init(|| body::query(definition)))
    }

    /// What reading it evaluates beside its query.
    pub(super) fn read(&self) -> &Result<Findings, Reason> {
        self.read.get_or_init(|| {
            let mut findings = body::expressions(&self.reading)?;
            findings.add(body::statistics(&self.statistics)?);
            Ok(findings)
        })
    }

    /// What writing to it evaluates beside that.
    pub(super) fn written(&self) -> &Result<Findings, Reason> {
        self.written.get_or_init(|| {
            let mut findings = body::expressions(&self.writing)?;
            findings.add(body::conditions(&self.conditions)?);
            Ok(findings)
        })
    }
}

impl Catalog {
    /// Reads the rows of the catalog query, one a line.
    pub fn from_lines(lines: &[u8]) -> Result<Self, CatalogError> {
        lines::read(lines)
    }

    /// Whether pg_catalog has functions of that name, and if so whether one is volatile.
    pub(super) fn builtin(&self, name: &str) -> Option<bool> {
        self.builtins.get(name).copied()
    }

    /// The name of a function of pg_catalog.
    pub(super) fn builtin_name(&self, oid: u32) -> Option<&str> {
        self.builtin_names.get(&oid).map(|name| &**name)
    }

    /// Whether the name may mean a relation of PostgreSQL's own.
    pub(super) fn is_system(&self, name: &Name) -> bool {
        let schemas = self.system.get(&name.name).map_or(&[][..], |s| s);
        schemas
            .iter()
            .any(|schema| name.schema.as_ref().is_none_or(|s| s == schema))
    }

    /// The functions that the name may mean beside those of pg_catalog.
    pub(super) fn functions(&self, name: &Name) -> impl Iterator<Item = usize> {
        let all = self
            .functions_by_name
            .get(&name.name)
            .map_or(&[][..], |all| all);
        let schema = name.schema.clone();
        all.iter().copied().filter(move |&i| {
            schema
                .as_ref()
                .is_none_or(|s| *s == self.functions[i].schema)
        })
    }

    /// The relations that the name may mean beside those of PostgreSQL's own.
    pub(super) fn relations(&self, name: &Name) -> impl Iterator<Item = usize> {
        let all = self
            .relations_by_name
            .get(&name.name)
            .map_or(&[][..], |all| all);
        let schema = name.schema.clone();
        all.iter().copied().filter(move |&i| {
            schema
                .as_ref()
                .is_none_or(|s| *s == self.relations[i].schema)
        })
    }

    /// The operators that the name may mean beside those of pg_catalog.
    pub(super) fn operators(&self, name: &Name) -> impl Iterator<Item = &Operator> {
        let all = self.operators.get(&name.name).map_or(&[][..], |all| all);
        let schema = name.schema.clone();
        all.iter()
            .filter(move |o| schema.as_ref().is_none_or(|s| *s == o.schema))
    }

    pub(super) fn function(&self, index: usize) -> &Function {
        &self.functions[index]
    }

    pub(super) fn function_of(&self, oid: u32) -> Option<usize> {
        self.functions_by_oid.get(&oid).copied()
    }

    pub(super) fn relation(&self, index: usize) -> &Relation {
        &self.relations[index]
    }

    pub(super) fn relation_of(&self, oid: u32) -> Option<usize> {
        self.relations_by_oid.get(&oid).copied()
    }

    /// All relations, for what goes over the whole database.
    pub(super) fn all_relations(&self) -> core::ops::Range<usize> {
        0..self.relations.len()
    }
}
