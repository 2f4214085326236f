//! The SQL/JSON forms, which are expressions with a grammar of their own.
//!
//! An older node takes some of them for calls of functions of that name, so each needs the name to
//! be no function of the database's own.

use manifold_core::proof::Reason;
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{
    JsonAggConstructor, JsonBehavior, JsonFuncExpr, JsonKeyValue, JsonOutput, JsonTable,
    JsonTableColumn, JsonTablePathSpec, JsonValueExpr, Node,
};

use super::super::findings::Need;
use super::Walker;

impl Walker {
    pub(super) fn json(&mut self, tree: &Tree) -> Result<(), Reason> {
        self.need(Need::Implicit);
        match tree {
            Tree::IndexElem(element) => self.index_element(element),
            Tree::JsonArgument(argument) => self.json_value(argument.val.as_deref()),
            Tree::JsonArrayAgg(aggregate) => {
                self.absent("json_arrayagg");
                self.json_aggregate(aggregate.constructor.as_deref())?;
                self.json_value(aggregate.arg.as_deref())
            }
            Tree::JsonArrayConstructor(array) => {
                self.absent("json_array");
                self.each(&array.exprs)?;
                self.json_output(array.output.as_ref())
            }
            Tree::JsonArrayQueryConstructor(array) => {
                self.absent("json_array");
                self.maybe(array.query.as_deref())?;
                self.json_output(array.output.as_ref())
            }
            Tree::JsonFuncExpr(function) => self.json_function(function),
            Tree::JsonIsPredicate(predicate) => self.maybe(predicate.expr.as_deref()),
            Tree::JsonKeyValue(pair) => self.json_pair(pair),
            Tree::JsonObjectAgg(aggregate) => {
                self.absent("json_objectagg");
                self.json_aggregate(aggregate.constructor.as_deref())?;
                aggregate
                    .arg
                    .as_ref()
                    .map_or(Ok(()), |pair| self.json_pair(pair))
            }
            Tree::JsonObjectConstructor(object) => {
                self.absent("json_object");
                self.each(&object.exprs)?;
                self.json_output(object.output.as_ref())
            }
            Tree::JsonParseExpr(parse) => {
                self.absent("json");
                self.json_value(parse.expr.as_deref())?;
                self.json_output(parse.output.as_ref())
            }
            Tree::JsonScalarExpr(scalar) => {
                self.absent("json_scalar");
                self.maybe(scalar.expr.as_deref())?;
                self.json_output(scalar.output.as_ref())
            }
            Tree::JsonSerializeExpr(serialize) => {
                self.absent("json_serialize");
                self.json_value(serialize.expr.as_deref())?;
                self.json_output(serialize.output.as_ref())
            }
            Tree::JsonTablePathSpec(path) => self.json_path(Some(path)),
            Tree::JsonValueExpr(value) => self.json_value(Some(value)),
            _ => Err(Reason::Unrecognised),
        }
    }

    fn absent(&mut self, name: &str) {
        self.need(Need::Absent(name.into()));
    }

    fn json_function(&mut self, function: &JsonFuncExpr) -> Result<(), Reason> {
        for name in ["json_exists", "json_query", "json_value"] {
            self.absent(name);
        }
        self.json_value(function.context_item.as_deref())?;
        self.maybe(function.pathspec.as_deref())?;
        self.each(&function.passing)?;
        self.json_output(function.output.as_ref())?;
        self.json_behavior(function.on_empty.as_deref())?;
        self.json_behavior(function.on_error.as_deref())
    }

    fn json_pair(&mut self, pair: &JsonKeyValue) -> Result<(), Reason> {
        self.maybe(pair.key.as_deref())?;
        self.json_value(pair.value.as_deref())
    }

    fn json_value(&mut self, value: Option<&JsonValueExpr>) -> Result<(), Reason> {
        let Some(value) = value else { return Ok(()) };
        self.maybe(value.raw_expr.as_deref())?;
        self.maybe(value.formatted_expr.as_deref())
    }

    fn json_output(&mut self, output: Option<&JsonOutput>) -> Result<(), Reason> {
        self.maybe_type(output.and_then(|output| output.type_name.as_ref()))
    }

    fn json_behavior(&mut self, behavior: Option<&JsonBehavior>) -> Result<(), Reason> {
        self.maybe(behavior.and_then(|behavior| behavior.expr.as_deref()))
    }

    fn json_path(&mut self, path: Option<&JsonTablePathSpec>) -> Result<(), Reason> {
        self.maybe(path.and_then(|path| path.string.as_deref()))
    }

    fn json_aggregate(&mut self, aggregate: Option<&JsonAggConstructor>) -> Result<(), Reason> {
        let Some(aggregate) = aggregate else {
            return Ok(());
        };
        self.json_output(aggregate.output.as_ref())?;
        self.maybe(aggregate.agg_filter.as_deref())?;
        self.each(&aggregate.agg_order)?;
        aggregate
            .over
            .as_ref()
            .map_or(Ok(()), |window| self.window(window))
    }

    pub(super) fn json_table(&mut self, table: &JsonTable) -> Result<(), Reason> {
        self.need(Need::Implicit);
        self.absent("json_table");
        self.json_value(table.context_item.as_deref())?;
        self.json_path(table.pathspec.as_deref())?;
        self.each(&table.passing)?;
        self.json_behavior(table.on_error.as_deref())?;
        self.json_columns(&table.columns)
    }

    fn json_columns(&mut self, columns: &[Node]) -> Result<(), Reason> {
        for column in columns {
            match &column.node {
                Some(Tree::JsonTableColumn(column)) => self.json_column(column)?,
                _ => return Err(Reason::Unrecognised),
            }
        }
        Ok(())
    }

    fn json_column(&mut self, column: &JsonTableColumn) -> Result<(), Reason> {
        self.maybe_type(column.type_name.as_ref())?;
        self.json_path(column.pathspec.as_deref())?;
        self.json_behavior(column.on_empty.as_deref())?;
        self.json_behavior(column.on_error.as_deref())?;
        self.json_columns(&column.columns)
    }
}
