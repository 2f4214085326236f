//! What a PL/pgSQL body runs: its statements and expressions, taken apart by its own rules.
//!
//! The language hands almost everything to SQL, up to a keyword or a semicolon outside parentheses,
//! so a body is read as a flat run of tokens. Knows no catalog. Invariant: every token is either of
//! a form that computes nothing (labels, names, types, keywords) or lies in a fragment; a body that
//! does not fit is refused.

use manifold_core::proof::Reason;
use pg_query::protobuf::{ScanToken, Token};

use super::grammar;

/// A part of a body that SQL runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fragment {
    /// Expressions, as the targets of a SELECT.
    Expression(String),
    /// A whole statement.
    Statement(String),
}

/// The fragments of a body.
pub(super) fn fragments(body: &str) -> Result<Vec<Fragment>, Reason> {
    let tokens = grammar::scan(body)?;
    let tokens = tokens
        .into_iter()
        .filter(|t| ![Token::SqlComment as i32, Token::CComment as i32].contains(&t.token))
        .collect();
    let mut reader = Reader {
        text: body,
        tokens,
        at: 0,
        open: Vec::new(),
        cursors: Vec::new(),
        fragments: Vec::new(),
    };
    while reader.at < reader.tokens.len() {
        reader.step()?;
    }
    Ok(reader.fragments)
}

/// What a WHEN belongs to.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Open {
    Block,
    Case,
    Handlers,
    Other,
}

struct Reader<'t> {
    text: &'t str,
    tokens: Vec<ScanToken>,
    at: usize,
    open: Vec<Open>,
    cursors: Vec<String>,
    fragments: Vec<Fragment>,
}

/// Where a part of a text begins and ends.
type Span = (usize, usize);

impl<'t> Reader<'t> {
    fn step(&mut self) -> Result<(), Reason> {
        let start = self.at;
        let word = self.word(start);
        self.at += 1;
        match word.as_str() {
            "<<" => self.label(),
            "#" => self.pragma(),
            ";" => Ok(()),
            "assert" => self.expression_until(&[";"]).map(drop),
            "begin" => self.enter(Open::Block),
            "call" | "do" => self.statement_from(start),
            "case" => self.case(),
            "close" | "fetch" | "get" | "move" => self.names_only(),
            "commit" | "rollback" => self.names_only(),
            "continue" | "exit" => self.leave_loop(),
            "declare" => self.declarations(),
            "else" => Ok(()),
            "elsif" | "elseif" => self.expression_until(&["then"]).map(drop),
            "end" => self.end(),
            "exception" => self.handlers(),
            "execute" => Err(Reason::Object),
            "for" => self.for_loop(),
            "foreach" => self.foreach_loop(),
            "if" => {
                self.enter(Open::Other)?;
                self.expression_until(&["then"]).map(drop)
            }
            "loop" => self.enter(Open::Other),
            "null" => self.expect(";"),
            "open" => self.open_cursor(),
            "perform" => self.expression_until(&[";"]).map(drop),
            "raise" => self.raise(),
            "return" => self.return_value(),
            "when" => self.when(),
            "while" => {
                self.enter(Open::Other)?;
                self.expression_until(&["loop"]).map(drop)
            }
            _ => self.assignment_or_statement(start),
        }
    }

    /// The token in lower case; a quoted name stays quoted, so that it is no keyword.
    fn word(&self, at: usize) -> String {
        self.tokens.get(at).map_or(String::new(), |_| {
            self.slice(at, at + 1).to_ascii_lowercase()
        })
    }

    fn slice(&self, from: usize, to: usize) -> &'t str {
        if from >= to || to > self.tokens.len() {
            return "";
        }
        let (start, end) = (self.tokens[from].start, self.tokens[to - 1].end);
        // The scanner's positions lie within the text, on boundaries of characters.
        self.text.get(start as usize..end as usize).unwrap_or("")
    }

    fn is_name(&self, at: usize) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| token.token == Token::Ident as i32 || token.keyword_kind > 0)
    }

    fn expect(&mut self, word: &str) -> Result<(), Reason> {
        if self.word(self.at) != word {
            return Err(Reason::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    fn skip(&mut self, words: &[&str]) -> bool {
        let is_there = words.contains(&self.word(self.at).as_str());
        self.at += usize::from(is_there);
        is_there
    }

    fn enter(&mut self, open: Open) -> Result<(), Reason> {
        self.open.push(open);
        Ok(())
    }

    /// Where one of the words stands next outside parentheses.
    fn find(&self, words: &[&str]) -> Result<usize, Reason> {
        let mut depth = 0_u32;
        for at in self.at..self.tokens.len() {
            let word = self.word(at);
            match word.as_str() {
                _ if depth == 0 && words.contains(&word.as_str()) => return Ok(at),
                // No expression goes on beyond its statement.
                ";" => break,
                "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.checked_sub(1).ok_or(Reason::Syntax)?,
                _ => {}
            }
        }
        Err(Reason::Syntax)
    }

    /// Takes an expression and the word that ends it. Says which word it was.
    fn expression_until(&mut self, words: &[&str]) -> Result<String, Reason> {
        let end = self.find(words)?;
        if end == self.at {
            return Err(Reason::Syntax);
        }
        self.push_expression(self.at, end);
        self.at = end + 1;
        Ok(self.word(end))
    }

    fn push_expression(&mut self, from: usize, to: usize) {
        self.fragments
            .push(Fragment::Expression(self.slice(from, to).to_owned()));
    }

    fn statement_from(&mut self, start: usize) -> Result<(), Reason> {
        self.statement_until(start, ";")
    }

    /// Takes a statement, without the INTO that names variables, and the word that ends it.
    fn statement_until(&mut self, start: usize, word: &str) -> Result<(), Reason> {
        let end = self.find(&[word])?;
        let mut text = self.slice(start, end).to_owned();
        if let Some((from, to)) = self.target_clause(start, end)? {
            let offset = self.tokens[start].start as usize;
            let (from, to) = (
                self.tokens[from].start as usize,
                self.tokens[to - 1].end as usize,
            );
            text.replace_range(from - offset..to - offset, " ");
        }
        self.fragments.push(Fragment::Statement(text));
        self.at = end + 1;
        Ok(())
    }

    /// INTO with its names, unless it belongs to INSERT or MERGE.
    fn target_clause(&self, start: usize, end: usize) -> Result<Option<Span>, Reason> {
        let is_own = |at: &usize| {
            self.word(*at) == "into"
                && (*at == start || !["insert", "merge"].contains(&self.word(at - 1).as_str()))
        };
        let mut found = (start..end).filter(is_own);
        let Some(from) = found.next() else {
            return Ok(None);
        };
        if found.next().is_some() {
            return Err(Reason::Syntax);
        }
        let mut at = from + 1;
        if self.word(at) == "strict" {
            at += 1;
        }
        loop {
            at = self.dotted_name(at)?;
            if self.word(at) != "," {
                break;
            }
            at += 1;
        }
        Ok(Some((from, at)))
    }

    /// The place after `a.b.c`, or after a positional parameter.
    fn dotted_name(&self, mut at: usize) -> Result<usize, Reason> {
        loop {
            let is_parameter = self
                .tokens
                .get(at)
                .is_some_and(|t| t.token == Token::Param as i32);
            if !is_parameter && !self.is_name(at) {
                return Err(Reason::Syntax);
            }
            at += 1;
            if self.word(at) != "." {
                return Ok(at);
            }
            at += 1;
        }
    }

    fn label(&mut self) -> Result<(), Reason> {
        self.at += 1;
        self.expect(">>")
    }

    /// `#variable_conflict …` and the like, which stand before the body.
    fn pragma(&mut self) -> Result<(), Reason> {
        if self.at != 1 || !self.is_name(1) || !self.is_name(2) {
            return Err(Reason::Syntax);
        }
        self.at += 2;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Reason> {
        self.open.pop();
        self.skip(&["if", "loop", "case"]);
        if self.word(self.at) != ";" && self.is_name(self.at) {
            self.at += 1;
        }
        if self.at < self.tokens.len() {
            self.expect(";")
        } else {
            Ok(())
        }
    }

    fn handlers(&mut self) -> Result<(), Reason> {
        match self.open.last_mut() {
            Some(open @ Open::Block) => {
                *open = Open::Handlers;
                Ok(())
            }
            _ => Err(Reason::Syntax),
        }
    }

    fn case(&mut self) -> Result<(), Reason> {
        self.enter(Open::Case)?;
        if self.word(self.at) == "when" {
            return Ok(());
        }
        let end = self.find(&["when"])?;
        self.push_expression(self.at, end);
        // Its value is compared with the values of each branch.
        self.fragments
            .push(Fragment::Expression("NULL = NULL".into()));
        self.at = end;
        Ok(())
    }

    fn when(&mut self) -> Result<(), Reason> {
        match self.open.last() {
            Some(Open::Case) => self.expression_until(&["then"]).map(drop),
            Some(Open::Handlers) => {
                let end = self.find(&["then"])?;
                self.check_inert(self.at, end)?;
                self.at = end + 1;
                Ok(())
            }
            _ => Err(Reason::Syntax),
        }
    }

    /// Whether there are only names, literals and separators.
    fn check_inert(&self, from: usize, to: usize) -> Result<(), Reason> {
        if to > self.tokens.len() {
            return Err(Reason::Syntax);
        }
        let inert = [
            Token::Sconst as i32,
            Token::Iconst as i32,
            Token::Param as i32,
        ];
        let is_inert = (from..to).all(|at| {
            self.is_name(at)
                || inert.contains(&self.tokens[at].token)
                || [",", ".", "=", ":=", "-"].contains(&self.word(at).as_str())
        });
        if is_inert {
            Ok(())
        } else {
            Err(Reason::Syntax)
        }
    }

    fn names_only(&mut self) -> Result<(), Reason> {
        let end = self.find(&[";"])?;
        self.check_inert(self.at, end)?;
        self.at = end + 1;
        Ok(())
    }

    fn leave_loop(&mut self) -> Result<(), Reason> {
        if self.word(self.at) != "when" && self.word(self.at) != ";" {
            self.at += 1;
        }
        if self.skip(&["when"]) {
            return self.expression_until(&[";"]).map(drop);
        }
        self.expect(";")
    }

    fn return_value(&mut self) -> Result<(), Reason> {
        if self.skip(&[";"]) {
            return Ok(());
        }
        if self.skip(&["query"]) {
            if self.word(self.at) == "execute" {
                return Err(Reason::Object);
            }
            return self.statement_from(self.at);
        }
        if self.skip(&["next"]) && self.skip(&[";"]) {
            return Ok(());
        }
        self.expression_until(&[";"]).map(drop)
    }

    /// Level, then a format or a condition, then values, then options.
    fn raise(&mut self) -> Result<(), Reason> {
        loop {
            if self.skip(&["using"]) {
                return self.raise_options();
            }
            if self.skip(&[";"]) {
                return Ok(());
            }
            if self.skip(&[","]) {
                let last = self.expression_until(&["using", ";"])?;
                return if last == "using" {
                    self.raise_options()
                } else {
                    Ok(())
                };
            }
            self.check_inert(self.at, self.at + 1)?;
            self.at += 1;
        }
    }

    fn raise_options(&mut self) -> Result<(), Reason> {
        loop {
            self.at += 1;
            if !self.skip(&["=", ":="]) {
                return Err(Reason::Syntax);
            }
            if self.expression_until(&[",", ";"])? == ";" {
                return Ok(());
            }
        }
    }

    fn for_loop(&mut self) -> Result<(), Reason> {
        self.enter(Open::Other)?;
        self.skip_names(&["in"])?;
        self.skip(&["reverse"]);
        if self.word(self.at) == "execute" {
            return Err(Reason::Object);
        }
        let end = self.find(&["loop"])?;
        if self.find(&[".."]).is_ok_and(|dots| dots < end) {
            self.expression_until(&[".."])?;
            if self.expression_until(&["by", "loop"])? == "by" {
                self.expression_until(&["loop"])?;
            }
            return Ok(());
        }
        if self.cursors.contains(&self.word(self.at)) {
            self.at += 1;
            return self.cursor_arguments("loop");
        }
        if end == self.at + 1 {
            // A cursor variable that came from elsewhere; its query was proven there.
            self.at = end + 1;
            return Ok(());
        }
        self.statement_until(self.at, "loop")
    }

    fn skip_names(&mut self, until: &[&str]) -> Result<(), Reason> {
        loop {
            self.at = self.dotted_name(self.at)?;
            if self.skip(until) {
                return Ok(());
            }
            self.expect(",")?;
        }
    }

    fn foreach_loop(&mut self) -> Result<(), Reason> {
        self.enter(Open::Other)?;
        let end = self.find(&["in"])?;
        self.check_inert(self.at, end)?;
        self.at = end + 1;
        self.expect("array")?;
        self.expression_until(&["loop"]).map(drop)
    }

    /// `(…)` or nothing, then the word.
    fn cursor_arguments(&mut self, end: &str) -> Result<(), Reason> {
        let at = self.find(&[end])?;
        if at > self.at {
            let text = format!("ROW{}", self.slice(self.at, at));
            self.fragments.push(Fragment::Expression(text));
        }
        self.at = at + 1;
        Ok(())
    }

    fn open_cursor(&mut self) -> Result<(), Reason> {
        self.at = self.dotted_name(self.at)?;
        let has_scroll = self.skip(&["no"]) | self.skip(&["scroll"]);
        if !self.skip(&["for"]) {
            return if has_scroll {
                Err(Reason::Syntax)
            } else {
                self.cursor_arguments(";")
            };
        }
        if self.word(self.at) == "execute" {
            return Err(Reason::Object);
        }
        self.statement_from(self.at)
    }

    fn declarations(&mut self) -> Result<(), Reason> {
        loop {
            if self.word(self.at) == "begin" || self.word(self.at) == "<<" {
                return Ok(());
            }
            if self.skip(&["declare"]) {
                continue;
            }
            self.declaration()?;
        }
    }

    fn declaration(&mut self) -> Result<(), Reason> {
        let name = self.word(self.at);
        if name.is_empty() {
            return Err(Reason::Syntax);
        }
        self.at += 1;
        let has_scroll = self.skip(&["no"]) | self.skip(&["scroll"]) | self.skip(&["scroll"]);
        if self.skip(&["cursor"]) {
            self.cursors.push(name);
            let query = self.find(&["for", "is"])?;
            self.at = query + 1;
            return self.statement_from(self.at);
        }
        if has_scroll {
            return Err(Reason::Syntax);
        }
        match self.find(&["default", ":=", "="]) {
            Ok(assign) => {
                self.at = assign + 1;
                self.expression_until(&[";"]).map(drop)
            }
            Err(_) => {
                self.at = self.find(&[";"])? + 1;
                Ok(())
            }
        }
    }

    /// `name := …`, or a statement of SQL.
    fn assignment_or_statement(&mut self, start: usize) -> Result<(), Reason> {
        if let Ok(mut at) = self.dotted_name(start) {
            while self.word(at) == "[" {
                self.at = at + 1;
                at = self.find(&["]"])? + 1;
                if self.word(at) == "." {
                    at = self.dotted_name(at + 1)?;
                }
            }
            if [":=", "="].contains(&self.word(at).as_str()) {
                self.push_expression(start, at);
                self.at = at + 1;
                return self.expression_until(&[";"]).map(drop);
            }
        }
        self.at = start;
        self.statement_from(start)
    }
}
