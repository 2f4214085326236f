//! Statements that write rows: INSERT, UPDATE, DELETE and MERGE.
//!
//! Invariant: the relation written to is a target, never a common table expression.

use manifold_core::proof::Reason;
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{
    DeleteStmt, InsertStmt, MergeStmt, MergeWhenClause, OnConflictClause, ReturningClause,
    UpdateStmt,
};

use super::Walker;

impl Walker {
    pub(super) fn insert(&mut self, insert: &InsertStmt) -> Result<(), Reason> {
        let InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = insert;
        let scope = self.scope.len();
        self.with(with_clause.as_ref())?;
        self.target(relation.as_ref())?;
        self.each(cols)?;
        self.maybe(select_stmt.as_deref())?;
        if let Some(conflict) = on_conflict_clause {
            self.conflict(conflict)?;
        }
        self.returning(returning_clause.as_ref())?;
        self.scope.truncate(scope);
        Ok(())
    }

    fn conflict(&mut self, conflict: &OnConflictClause) -> Result<(), Reason> {
        let OnConflictClause {
            action: _,
            infer,
            target_list,
            where_clause,
            location: _,
        } = conflict;
        if let Some(infer) = infer {
            self.each(&infer.index_elems)?;
            self.maybe(infer.where_clause.as_deref())?;
        }
        self.each(target_list)?;
        self.maybe(where_clause.as_deref())
    }

    pub(super) fn update(&mut self, update: &UpdateStmt) -> Result<(), Reason> {
        let UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = update;
        let scope = self.scope.len();
        self.with(with_clause.as_ref())?;
        self.target(relation.as_ref())?;
        self.each(target_list)?;
        self.each(from_clause)?;
        self.maybe(where_clause.as_deref())?;
        self.returning(returning_clause.as_ref())?;
        self.scope.truncate(scope);
        Ok(())
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt) -> Result<(), Reason> {
        let DeleteStmt {
            relation,
            using_clause,
            where_clause,
            returning_clause,
            with_clause,
        } = delete;
        let scope = self.scope.len();
        self.with(with_clause.as_ref())?;
        self.target(relation.as_ref())?;
        self.each(using_clause)?;
        self.maybe(where_clause.as_deref())?;
        self.returning(returning_clause.as_ref())?;
        self.scope.truncate(scope);
        Ok(())
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt) -> Result<(), Reason> {
        let MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = merge;
        let scope = self.scope.len();
        self.with(with_clause.as_ref())?;
        self.target(relation.as_ref())?;
        self.maybe(source_relation.as_deref())?;
        self.maybe(join_condition.as_deref())?;
        for when in merge_when_clauses {
            match &when.node {
                Some(Tree::MergeWhenClause(when)) => self.merge_when(when)?,
                _ => return Err(Reason::Unrecognised),
            }
        }
        self.returning(returning_clause.as_ref())?;
        self.scope.truncate(scope);
        Ok(())
    }

    fn merge_when(&mut self, when: &MergeWhenClause) -> Result<(), Reason> {
        self.maybe(when.condition.as_deref())?;
        self.each(&when.target_list)?;
        self.each(&when.values)
    }

    fn returning(&mut self, returning: Option<&ReturningClause>) -> Result<(), Reason> {
        returning.map_or(Ok(()), |returning| self.each(&returning.exprs))
    }
}
