//! Expressions: what computes a value.
//!
//! Knows no statement. Invariant: whatever evaluates a function, an operator or a conversion is
//! noted as a need before the expression is accepted.

use manifold_core::proof::Reason;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{
    AConst, AExpr, AExprKind, CaseExpr, Node, SubLink, SubLinkType, TypeCast, WindowDef,
};

use super::super::findings::Need;
use super::{Walker, string_of};

impl Walker {
    pub(super) fn expression(&mut self, tree: &Tree) -> Result<(), Reason> {
        match tree {
            Tree::AArrayExpr(array) => self.each(&array.elements),
            Tree::AConst(constant) => {
                self.constant(constant);
                Ok(())
            }
            Tree::AExpr(operation) => self.operation(operation),
            Tree::AIndices(indices) => {
                self.maybe(indices.lidx.as_deref())?;
                self.maybe(indices.uidx.as_deref())
            }
            Tree::AIndirection(indirection) => {
                self.maybe(indirection.arg.as_deref())?;
                self.indirection(&indirection.indirection, Need::Method)
            }
            Tree::AStar(_) | Tree::CurrentOfExpr(_) | Tree::SetToDefault(_) => Ok(()),
            Tree::BoolExpr(expr) => self.each(&expr.args),
            Tree::BooleanTest(test) => self.maybe(test.arg.as_deref()),
            Tree::CaseExpr(case) => self.case(case),
            Tree::CaseWhen(when) => {
                self.maybe(when.expr.as_deref())?;
                self.maybe(when.result.as_deref())
            }
            Tree::CoalesceExpr(expr) => self.each(&expr.args),
            Tree::CollateClause(collate) => self.maybe(collate.arg.as_deref()),
            Tree::ColumnRef(column) => self.column(&column.fields),
            Tree::FuncCall(call) => self.call(call),
            Tree::GroupingFunc(grouping) => self.each(&grouping.args),
            Tree::GroupingSet(set) => self.each(&set.content),
            Tree::List(list) => self.each(&list.items),
            Tree::MergeSupportFunc(_) => {
                self.need(Need::Absent("merge_action".into()));
                Ok(())
            }
            Tree::MinMaxExpr(expr) => self.each(&expr.args),
            Tree::MultiAssignRef(assign) => self.maybe(assign.source.as_deref()),
            Tree::NamedArgExpr(named) => self.maybe(named.arg.as_deref()),
            Tree::NullTest(test) => self.maybe(test.arg.as_deref()),
            Tree::ParamRef(_) => {
                self.need(Need::Implicit);
                Ok(())
            }
            Tree::ResTarget(target) => {
                self.indirection(&target.indirection, Need::Attribute)?;
                self.maybe(target.val.as_deref())
            }
            Tree::RowExpr(row) => self.each(&row.args),
            Tree::SortBy(sort) => {
                self.maybe(sort.node.as_deref())?;
                if sort.use_op.is_empty() {
                    Ok(())
                } else {
                    self.operator(&sort.use_op)
                }
            }
            Tree::SqlvalueFunction(_) => Ok(()),
            Tree::SubLink(link) => self.sub_link(link),
            Tree::TypeCast(cast) => self.cast(cast),
            Tree::WindowDef(window) => self.window(window),
            _ => self.json(tree),
        }
    }

    fn constant(&mut self, constant: &AConst) {
        if let Some(Val::Sval(string)) = &constant.val {
            self.literal(&string.sval);
        }
    }

    fn operation(&mut self, operation: &AExpr) -> Result<(), Reason> {
        let AExpr {
            kind,
            name,
            lexpr,
            rexpr,
            ..
        } = operation;
        match AExprKind::try_from(*kind) {
            Ok(
                AExprKind::AexprBetween
                | AExprKind::AexprNotBetween
                | AExprKind::AexprBetweenSym
                | AExprKind::AexprNotBetweenSym,
            ) => ["<", "<=", ">", ">="]
                .iter()
                .for_each(|symbol| self.plain_operator(symbol)),
            Ok(AExprKind::Undefined) | Err(_) => return Err(Reason::Unrecognised),
            Ok(_) => self.operator(name)?,
        }
        self.maybe(lexpr.as_deref())?;
        self.maybe(rexpr.as_deref())
    }

    fn case(&mut self, case: &CaseExpr) -> Result<(), Reason> {
        if case.arg.is_some() {
            self.plain_operator("=");
        }
        self.maybe(case.arg.as_deref())?;
        self.each(&case.args)?;
        self.maybe(case.defresult.as_deref())
    }

    /// `a.b` is a call of `b(a)` where no column has that name.
    fn column(&mut self, fields: &[Node]) -> Result<(), Reason> {
        let need = if self.is_body {
            Need::Method
        } else {
            Need::Attribute
        };
        self.indirection(fields.get(1..).unwrap_or_default(), need)
    }

    fn indirection(&mut self, parts: &[Node], need: fn(Box<str>) -> Need) -> Result<(), Reason> {
        for part in parts {
            match string_of(part) {
                Some(name) => self.need(need(name.into())),
                None => self.node(part)?,
            }
        }
        Ok(())
    }

    fn sub_link(&mut self, link: &SubLink) -> Result<(), Reason> {
        let SubLink {
            sub_link_type,
            testexpr,
            oper_name,
            subselect,
            ..
        } = link;
        if !oper_name.is_empty() {
            self.operator(oper_name)?;
        } else if *sub_link_type == SubLinkType::AnySublink as i32 {
            self.plain_operator("=");
        }
        self.maybe(testexpr.as_deref())?;
        self.maybe(subselect.as_deref())
    }

    fn cast(&mut self, cast: &TypeCast) -> Result<(), Reason> {
        self.maybe_type(cast.type_name.as_ref())?;
        self.maybe(cast.arg.as_deref())
    }

    pub(super) fn window(&mut self, window: &WindowDef) -> Result<(), Reason> {
        let WindowDef {
            partition_clause,
            order_clause,
            start_offset,
            end_offset,
            ..
        } = window;
        self.each(partition_clause)?;
        self.each(order_clause)?;
        self.maybe(start_offset.as_deref())?;
        self.maybe(end_offset.as_deref())
    }
}
