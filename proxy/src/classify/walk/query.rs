//! Queries: SELECT, VALUES, WITH and what stands in FROM.
//!
//! Invariant: a bare name is taken for a common table expression only where PostgreSQL would take
//! it for one; everywhere else it is a relation, and a need.

use manifold_core::proof::Reason;
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{
    CommonTableExpr, CteCycleClause, JoinExpr, Node, RangeFunction, RangeTableSample, SelectStmt,
    WithClause,
};

use super::super::findings::{Effect, Name, Need};
use super::{Walker, name_of};

impl Walker {
    /// Reads a SELECT without INTO.
    pub(in super::super) fn select(&mut self, select: &SelectStmt) -> Result<(), Reason> {
        let SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = select;
        if into_clause.is_some() {
            return Err(Reason::Unrecognised);
        }
        let scope = self.scope.len();
        self.with(with_clause.as_ref())?;
        for side in [larg, rarg].into_iter().flatten() {
            self.nested_select(side)?;
        }
        for list in [
            distinct_clause,
            target_list,
            from_clause,
            group_clause,
            window_clause,
            values_lists,
            sort_clause,
        ] {
            self.each(list)?;
        }
        for part in [where_clause, having_clause, limit_offset, limit_count] {
            self.maybe(part.as_deref())?;
        }
        if !locking_clause.is_empty() {
            self.findings.raise(Effect::Wait);
        }
        self.scope.truncate(scope);
        Ok(())
    }

    fn nested_select(&mut self, select: &SelectStmt) -> Result<(), Reason> {
        if self.depth >= super::DEPTH_MAX {
            return Err(Reason::Complexity);
        }
        self.depth += 1;
        let read = self.select(select);
        self.depth -= 1;
        read
    }

    /// Reads the queries of WITH and leaves their names in scope: each sees those before it, and
    /// with RECURSIVE all.
    pub(super) fn with(&mut self, with: Option<&WithClause>) -> Result<(), Reason> {
        let Some(with) = with else { return Ok(()) };
        if with.recursive {
            for node in &with.ctes {
                let name = cte_of(node)?.ctename.as_str().into();
                self.scope.push(name);
            }
        }
        for node in &with.ctes {
            let cte = cte_of(node)?;
            self.maybe(cte.ctequery.as_deref())?;
            if let Some(cycle) = &cte.cycle_clause {
                self.cycle(cycle)?;
            }
            if !with.recursive {
                self.scope.push(cte.ctename.as_str().into());
            }
        }
        Ok(())
    }

    fn cycle(&mut self, cycle: &CteCycleClause) -> Result<(), Reason> {
        self.plain_operator("=");
        self.plain_operator("<>");
        self.maybe(cycle.cycle_mark_value.as_deref())?;
        self.maybe(cycle.cycle_mark_default.as_deref())
    }

    pub(super) fn table_item(&mut self, tree: &Tree) -> Result<(), Reason> {
        match tree {
            Tree::JoinExpr(join) => self.join(join),
            Tree::JsonTable(table) => self.json_table(table),
            Tree::RangeFunction(function) => self.range_function(function),
            Tree::RangeSubselect(subselect) => self.maybe(subselect.subquery.as_deref()),
            Tree::RangeTableSample(sample) => self.sample(sample),
            Tree::RangeVar(relation) if self.is_in_scope(relation) => Ok(()),
            Tree::RangeVar(relation) => self.relation(relation),
            _ => Err(Reason::Unrecognised),
        }
    }

    fn join(&mut self, join: &JoinExpr) -> Result<(), Reason> {
        let JoinExpr {
            is_natural,
            larg,
            rarg,
            using_clause,
            quals,
            ..
        } = join;
        if *is_natural || !using_clause.is_empty() {
            self.plain_operator("=");
        }
        self.maybe(larg.as_deref())?;
        self.maybe(rarg.as_deref())?;
        self.maybe(quals.as_deref())
    }

    /// Each function comes as a list of the call and its column definitions.
    fn range_function(&mut self, function: &RangeFunction) -> Result<(), Reason> {
        let RangeFunction {
            functions,
            coldeflist,
            ..
        } = function;
        self.each(functions)?;
        self.columns(coldeflist)
    }

    /// Reads definitions of columns: names and types.
    pub(super) fn columns(&mut self, columns: &[Node]) -> Result<(), Reason> {
        for column in columns {
            match &column.node {
                Some(Tree::ColumnDef(column)) => self.maybe_type(column.type_name.as_ref())?,
                _ => return Err(Reason::Unrecognised),
            }
        }
        Ok(())
    }

    fn sample(&mut self, sample: &RangeTableSample) -> Result<(), Reason> {
        let RangeTableSample {
            relation,
            method,
            args,
            repeatable,
            ..
        } = sample;
        self.maybe(relation.as_deref())?;
        let Name { schema, name } = name_of(method)?;
        self.need(Need::Call(Name { schema, name }));
        self.each(args)?;
        self.maybe(repeatable.as_deref())
    }
}

fn cte_of(node: &Node) -> Result<&CommonTableExpr, Reason> {
    match &node.node {
        Some(Tree::CommonTableExpr(cte)) => Ok(cte),
        _ => Err(Reason::Unrecognised),
    }
}
