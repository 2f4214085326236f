//! The proof: a walk from what a text rests on to everything that rests on.
//!
//! Knows the catalog and the reviewed lists, and no grammar. Invariant: the effect of a text is the
//! greatest effect of anything that can be reached from it, and one thing that is not proven
//! refuses all. The walk goes on all the same, so that the reason is the one that leaves most
//! behind.

use std::collections::BTreeSet;

use manifold_core::proof::{Reason, Residue};

use super::builtin;
use super::catalog::Catalog;
use super::findings::{Effect, Findings, Name, Need, Trigger};
use super::setting;

/// How many needs one text may reach; a database of thousands of functions stays below.
const NEEDS_MAX: usize = 100_000;

/// What has been proven of a text.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Proven {
    /// The greatest effect.
    pub effect: Effect,
    /// A literal somewhere names the clock.
    pub freezes: bool,
}

/// Proves what was found in a text. Without a catalog only what rests on nothing is proven.
pub(super) fn prove(findings: &Findings, catalog: Option<&Catalog>) -> Result<Proven, Reason> {
    let mut proven = Proven {
        effect: findings.effect,
        freezes: findings.freezes,
    };
    if findings.needs.is_empty() {
        return Ok(proven);
    }
    let mut walk = Walk {
        catalog: catalog.ok_or(Reason::CatalogUnknown)?,
        proven: &mut proven,
        seen: BTreeSet::new(),
        open: Vec::new(),
    };
    walk.push(findings.needs.iter().cloned(), false);
    let mut refused = None;
    while let Some((step, in_trigger)) = walk.open.pop() {
        if walk.seen.len() > NEEDS_MAX {
            return Err(Reason::Complexity);
        }
        let taken = walk.take(step, in_trigger);
        refused = Reason::worst(
            refused,
            taken.err().map(|reason| of_trigger(reason, in_trigger)),
        );
    }
    refused.map_or(Ok(proven), Err)
}

/// What a trigger does wrong counts as the trigger's, unless it outlives the session.
fn of_trigger(reason: Reason, in_trigger: bool) -> Reason {
    if in_trigger && reason.residue() < Residue::Process {
        Reason::Trigger
    } else {
        reason
    }
}

/// A thing to be proven.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Step {
    Need(Need),
    /// Reading the relation at this index.
    Read(usize),
    /// Writing to it.
    Write(usize),
}

struct Walk<'c> {
    catalog: &'c Catalog,
    proven: &'c mut Proven,
    seen: BTreeSet<Step>,
    open: Vec<(Step, bool)>,
}

impl<'c> Walk<'c> {
    fn push(&mut self, needs: impl IntoIterator<Item = Need>, in_trigger: bool) {
        needs
            .into_iter()
            .for_each(|need| self.step(Step::Need(need), in_trigger));
    }

    fn step(&mut self, step: Step, in_trigger: bool) {
        if !self.seen.contains(&step) {
            self.seen.insert(step.clone());
            self.open.push((step, in_trigger));
        }
    }

    fn add(&mut self, found: &Result<Findings, Reason>, in_trigger: bool) -> Result<(), Reason> {
        let found = found.as_ref().map_err(|reason| *reason)?;
        self.raise(found.effect);
        self.proven.freezes |= found.freezes;
        self.push(found.needs.iter().cloned(), in_trigger);
        Ok(())
    }

    fn raise(&mut self, effect: Effect) {
        self.proven.effect = self.proven.effect.max(effect);
    }

    fn uses(&mut self, oids: &[u32], in_trigger: bool) {
        self.push(oids.iter().map(|oid| Need::Function(*oid)), in_trigger);
    }

    fn take(&mut self, step: Step, in_trigger: bool) -> Result<(), Reason> {
        match step {
            Step::Need(Need::Absent(name)) => self.absent(&name),
            Step::Need(Need::Attribute(name)) => self.attribute(&name, true, in_trigger),
            Step::Need(Need::Call(name)) => self.call(&name, in_trigger),
            Step::Need(Need::Function(oid)) => self.function(oid, in_trigger),
            Step::Need(Need::Implicit) => self.implicit(in_trigger),
            Step::Need(Need::Method(name)) => self.attribute(&name, false, in_trigger),
            Step::Need(Need::Operator(name)) => {
                let catalog = self.catalog;
                catalog
                    .operators(&name)
                    .for_each(|o| self.uses(&o.uses, in_trigger));
                Ok(())
            }
            Step::Need(Need::Relation(name)) => self.relation(&name, in_trigger),
            Step::Need(Need::Refresh(name)) => self.refresh(&name, in_trigger),
            Step::Need(Need::Target(name)) => self.target(&name, in_trigger),
            Step::Need(Need::Trigger(trigger)) => self.trigger(&trigger),
            Step::Need(Need::Truncate(name, cascades)) => self.truncate(&name, cascades),
            Step::Read(index) => self.read(index, in_trigger),
            Step::Write(index) => self.write(index, in_trigger),
        }
    }

    fn absent(&self, name: &str) -> Result<(), Reason> {
        match self.catalog.functions(&Name::bare(name)).next() {
            Some(_) => Err(Reason::Object),
            None => Ok(()),
        }
    }

    /// A name after a dot is a column as a rule, and known to be one nowhere here.
    fn attribute(&mut self, name: &str, is_of_row: bool, in_trigger: bool) -> Result<(), Reason> {
        let catalog = self.catalog;
        if let Some(is_volatile) = catalog.builtin(name) {
            self.builtin(name, is_volatile)?;
        }
        for index in catalog.functions(&Name::bare(name)) {
            let function = catalog.function(index);
            if if is_of_row {
                function.is_attribute
            } else {
                function.is_method
            } {
                self.body(index, in_trigger)?;
            }
        }
        Ok(())
    }

    /// A function of pg_catalog whose arguments are not known.
    fn builtin(&mut self, name: &str, is_volatile: bool) -> Result<(), Reason> {
        if builtin::depends_on_arguments(name) {
            return Err(Reason::Object);
        }
        self.raise(builtin_effect(name, is_volatile)?);
        Ok(())
    }

    fn call(&mut self, name: &Name, in_trigger: bool) -> Result<(), Reason> {
        let catalog = self.catalog;
        let mut is_known = false;
        if name
            .schema
            .as_deref()
            .is_none_or(|schema| schema == "pg_catalog")
            && let Some(is_volatile) = catalog.builtin(&name.name)
        {
            self.raise(builtin_effect(&name.name, is_volatile)?);
            is_known = true;
        }
        for index in catalog.functions(name) {
            self.body(index, in_trigger)?;
            is_known = true;
        }
        if is_known {
            Ok(())
        } else {
            Err(Reason::Object)
        }
    }

    fn function(&mut self, oid: u32, in_trigger: bool) -> Result<(), Reason> {
        if let Some(index) = self.catalog.function_of(oid) {
            return self.body(index, in_trigger);
        }
        // No function: an operator without estimators, an aggregate without a final step.
        if oid == 0 {
            return Ok(());
        }
        let name = self.catalog.builtin_name(oid).ok_or(Reason::Object)?;
        let is_volatile = self.catalog.builtin(name).ok_or(Reason::Object)?;
        self.builtin(name, is_volatile)
    }

    fn body(&mut self, index: usize, in_trigger: bool) -> Result<(), Reason> {
        let function = self.catalog.function(index);
        function
            .settings
            .iter()
            .try_for_each(|s| setting::check_attached(s))?;
        self.uses(&function.uses, in_trigger);
        match &*function.language {
            "aggregate" => Ok(()),
            "c" => {
                let library = function.source.as_deref().unwrap_or_default();
                let effect = builtin::library(library, &function.symbol, function.is_volatile)?;
                self.raise(effect);
                Ok(())
            }
            // Another name of a function of pg_catalog, which is among its uses.
            "internal" if !function.uses.is_empty() => Ok(()),
            "plpgsql" | "sql" => self.add(function.findings(), in_trigger),
            "internal" => Err(Reason::Object),
            // The variables of a language last as long as its process.
            _ => Err(Reason::Process),
        }
    }

    fn trigger(&mut self, trigger: &Trigger) -> Result<(), Reason> {
        let Some(index) = self.catalog.function_of(trigger.function) else {
            return self.function(trigger.function, true);
        };
        let function = self.catalog.function(index);
        let transitions = trigger.transitions();
        if transitions.is_empty() || &*function.language != "plpgsql" {
            return self.body(index, true);
        }
        function
            .settings
            .iter()
            .try_for_each(|s| setting::check_attached(s))?;
        self.uses(&function.uses, true);
        self.add(&function.findings_with(&transitions), true)
    }

    fn implicit(&mut self, in_trigger: bool) -> Result<(), Reason> {
        let catalog = self.catalog;
        for implicit in &catalog.implicit {
            self.uses(&implicit.uses, in_trigger);
            self.add(&implicit.expressions, in_trigger)?;
        }
        Ok(())
    }

    fn relation(&mut self, name: &Name, in_trigger: bool) -> Result<(), Reason> {
        let catalog = self.catalog;
        let mut is_known = false;
        if catalog.is_system(name) {
            builtin::relation(&name.name)?;
            is_known = true;
        }
        for index in catalog.relations(name) {
            self.step(Step::Read(index), in_trigger);
            is_known = true;
        }
        // It may be a temporary table of this session, or nothing at all.
        if is_known {
            Ok(())
        } else {
            Err(Reason::Relation)
        }
    }

    fn read(&mut self, index: usize, in_trigger: bool) -> Result<(), Reason> {
        let catalog = self.catalog;
        let relation = catalog.relation(index);
        if relation.is_guarded || !"mprvS".contains(relation.kind) {
            return Err(Reason::Relation);
        }
        if relation.kind == 'v' {
            let query = relation.query().ok_or(Reason::Relation)?;
            self.add(query, in_trigger)?;
        }
        self.add(relation.read(), in_trigger)?;
        self.children(index, Step::Read, in_trigger)
    }

    fn children(
        &mut self,
        index: usize,
        step: fn(usize) -> Step,
        in_trigger: bool,
    ) -> Result<(), Reason> {
        let catalog = self.catalog;
        for child in &catalog.relation(index).children {
            let child = catalog.relation_of(*child).ok_or(Reason::Relation)?;
            self.step(step(child), in_trigger);
        }
        Ok(())
    }

    fn target(&mut self, name: &Name, in_trigger: bool) -> Result<(), Reason> {
        let catalog = self.catalog;
        // Some views of PostgreSQL's own have rules that set the session's settings.
        if catalog.is_system(name) {
            return Err(Reason::Relation);
        }
        let mut is_known = false;
        for index in catalog.relations(name) {
            self.step(Step::Write(index), in_trigger);
            is_known = true;
        }
        if is_known {
            Ok(())
        } else {
            Err(Reason::Relation)
        }
    }

    fn write(&mut self, index: usize, in_trigger: bool) -> Result<(), Reason> {
        let catalog = self.catalog;
        let relation = catalog.relation(index);
        self.step(Step::Read(index), in_trigger);
        self.raise(Effect::Write);
        self.add(relation.written(), in_trigger)?;
        for trigger in &relation.triggers {
            self.step(Step::Need(Need::Trigger(trigger.clone())), true);
        }
        for (referrer, _) in relation.referrers.iter().filter(|(_, carries)| *carries) {
            let referrer = catalog.relation_of(*referrer).ok_or(Reason::Relation)?;
            self.step(Step::Write(referrer), in_trigger);
        }
        match relation.kind {
            'p' | 'r' => self.children(index, Step::Write, in_trigger),
            // Writing to a view writes to what it is made of.
            'v' => {
                let query = relation.query().ok_or(Reason::Relation)?;
                let query = query.as_ref().map_err(|reason| *reason)?;
                let targets = query.needs.iter().filter_map(|need| match need {
                    Need::Relation(name) => Some(Need::Target(name.clone())),
                    _ => None,
                });
                self.push(targets, in_trigger);
                Ok(())
            }
            _ => Err(Reason::Relation),
        }
    }

    fn refresh(&mut self, name: &Name, in_trigger: bool) -> Result<(), Reason> {
        let catalog = self.catalog;
        let mut is_known = false;
        for index in catalog.relations(name) {
            self.step(Step::Read(index), in_trigger);
            let query = catalog.relation(index).query().ok_or(Reason::Relation)?;
            self.add(query, in_trigger)?;
            is_known = true;
        }
        if is_known {
            Ok(())
        } else {
            Err(Reason::Relation)
        }
    }

    fn truncate(&mut self, name: &Name, cascades: bool) -> Result<(), Reason> {
        self.target(name, false)?;
        if !cascades {
            return Ok(());
        }
        let catalog = self.catalog;
        let mut open: Vec<usize> = catalog.relations(name).collect();
        let mut reached = BTreeSet::new();
        while let Some(index) = open.pop() {
            if !reached.insert(index) {
                continue;
            }
            self.step(Step::Write(index), false);
            let relation = catalog.relation(index);
            let next = relation
                .referrers
                .iter()
                .map(|(oid, _)| oid)
                .chain(&relation.children);
            for oid in next {
                open.push(catalog.relation_of(*oid).ok_or(Reason::Relation)?);
            }
        }
        Ok(())
    }
}

/// Whether nothing that the event triggers run leaves state behind.
pub(super) fn event_triggers(catalog: &Catalog) -> Result<(), Reason> {
    let mut findings = Findings::default();
    findings.needs.extend(
        catalog
            .event_triggers
            .iter()
            .map(|oid| Need::Function(*oid)),
    );
    prove(&findings, Some(catalog))
        .map(drop)
        .map_err(|_| Reason::Trigger)
}

/// Whether all relations can be read: what goes over the whole database evaluates expressions of
/// their indexes.
pub(super) fn whole_database(catalog: &Catalog) -> Result<(), Reason> {
    for index in catalog.all_relations() {
        let relation = catalog.relation(index);
        if "mpr".contains(relation.kind) {
            let read = relation.read().as_ref().map_err(|reason| *reason)?;
            prove(read, Some(catalog))?;
        }
    }
    Ok(())
}

fn builtin_effect(name: &str, is_volatile: bool) -> Result<Effect, Reason> {
    match builtin::function(name) {
        Some(listed) => listed,
        None if is_volatile => Err(Reason::Object),
        None => Ok(Effect::Read),
    }
}
