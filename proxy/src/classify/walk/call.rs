//! Calls of functions, and the few whose arguments decide.
//!
//! Invariant: a call of a function whose arguments decide is accepted only with literals that are
//! known to leave nothing behind.

use manifold_core::proof::Reason;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{CoercionForm, FuncCall, IndexElem, Node};

use super::super::builtin;
use super::super::findings::{Name, Need};
use super::super::setting;
use super::{Walker, name_of};

impl Walker {
    pub(in super::super) fn call(&mut self, call: &FuncCall) -> Result<(), Reason> {
        let FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group: _,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat,
            location: _,
        } = call;
        let mut name = name_of(funcname)?;
        if *funcformat == CoercionForm::CoerceSqlSyntax as i32 {
            // A form that is newer than the node may be a call of the database's own function.
            name.schema = None;
        }
        self.check_arguments(&name, args)?;
        self.need(Need::Implicit);
        self.need(Need::Call(name));
        self.each(args)?;
        self.each(agg_order)?;
        self.maybe(agg_filter.as_deref())?;
        over.as_ref().map_or(Ok(()), |window| self.window(window))
    }

    /// Notes a call whose arguments have been checked already.
    pub(in super::super) fn called(&mut self, funcname: &[Node]) -> Result<(), Reason> {
        let name = name_of(funcname)?;
        self.need(Need::Implicit);
        self.need(Need::Call(name));
        Ok(())
    }

    fn check_arguments(&mut self, name: &Name, args: &[Node]) -> Result<(), Reason> {
        if !builtin::depends_on_arguments(&name.name) {
            return Ok(());
        }
        self.findings.literal = true;
        match (&*name.name, args) {
            ("current_schemas", [all]) if boolean(all) == Some(false) => Ok(()),
            // The schema of temporary objects stays in the list after its session is gone.
            ("current_schemas", _) => Err(Reason::Temporary),
            ("current_setting", [name] | [name, _]) => check_read(name),
            ("set_config", [name, value, is_local]) if boolean(is_local) == Some(true) => {
                self.findings.sets_local = true;
                let name = string(name).ok_or(Reason::Unrecognised)?;
                setting::check_local(&name.to_ascii_lowercase(), string(value))
            }
            ("set_config", [name, value, _]) => {
                let name = string(name).ok_or(Reason::Unrecognised)?;
                setting::check_local(&name.to_ascii_lowercase(), string(value))?;
                Err(Reason::SessionState)
            }
            _ => Err(Reason::SessionState),
        }
    }

    /// An element of an index or of ON CONFLICT.
    pub(super) fn index_element(&mut self, element: &IndexElem) -> Result<(), Reason> {
        self.maybe(element.expr.as_deref())
    }
}

/// Settings are the session's own wherever a statement runs, save the one that does not keep shared
/// requests apart.
fn check_read(name: &Node) -> Result<(), Reason> {
    match string(name) {
        Some(name) if !name.eq_ignore_ascii_case("application_name") => Ok(()),
        _ => Err(Reason::SessionState),
    }
}

/// The text of a string literal.
pub(in super::super) fn string(node: &Node) -> Option<&str> {
    match constant(node)? {
        Val::Sval(string) => Some(&string.sval),
        _ => None,
    }
}

/// The value of TRUE or FALSE.
pub(in super::super) fn boolean(node: &Node) -> Option<bool> {
    match constant(node)? {
        Val::Boolval(value) => Some(value.boolval),
        _ => None,
    }
}

fn constant(node: &Node) -> Option<&Val> {
    match node.node.as_ref()? {
        Tree::AConst(constant) if !constant.isnull => constant.val.as_ref(),
        Tree::TypeCast(cast) => {
            let names = &cast.type_name.as_ref()?.names;
            // 'x'::text is what drivers write for a parameter of that type.
            let is_text = names.last().and_then(super::string_of) == Some("text");
            if is_text {
                constant(cast.arg.as_deref()?)
            } else {
                None
            }
        }
        _ => None,
    }
}
