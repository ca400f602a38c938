//! Tokens of a template to its syntax tree: the statements.
//!
//! It knows which filters and checks exist, because Jinja refuses unknown ones where they are not
//! below a condition.

mod expressions;
mod macros;

use std::sync::Arc;

use super::ast::{
    ArgumentList, Expression, ExtraArguments, FilterCall, ForLoop, Statement, Target,
};
use super::failure::{TemplateFailure, failure};
use super::lexer::{self, TemplateToken};

/// Maximum depth of expressions and statements in each other.
const MAX_DEPTH: usize = 100;

/// Parses a template.
pub(super) fn parse(
    source: &str,
    known: [fn(&str) -> bool; 2],
) -> Result<Vec<Statement>, TemplateFailure> {
    let tokens = lexer::tokens(source)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        n_loops: 0,
        is_conditional: false,
        used: ExtraArguments::default(),
        blocks: Vec::new(),
        known,
    };
    let (body, end) = parser.body(&[])?;
    match end {
        None => Ok(body),
        Some(tag) => parser.fail(format!("unexpected tag `{tag}`")),
    }
}

struct Parser {
    tokens: Vec<(TemplateToken, usize)>,
    at: usize,
    depth: usize,
    /// Number of loops around the present statement, in the same macro.
    n_loops: usize,
    /// Whether an unknown filter is an error only if it is reached.
    is_conditional: bool,
    /// Special names that the present macro uses.
    used: ExtraArguments,
    /// Names of the blocks so far.
    blocks: Vec<String>,
    /// Whether a filter, or a check, of this name exists.
    known: [fn(&str) -> bool; 2],
}

impl Parser {
    fn fail<T>(&self, reason: impl AsRef<str>) -> Result<T, TemplateFailure> {
        let line = self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(_, line)| *line);
        failure(format!("line {line}: {}", reason.as_ref()))
    }

    fn peek(&self) -> Option<&TemplateToken> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Option<TemplateToken> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.peek(), Some(TemplateToken::Operator(found)) if *found == operator)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(TemplateToken::Name(found)) if found == name)
    }

    /// Takes an operator, if it comes next.
    fn skip(&mut self, operator: &str) -> bool {
        let is = self.is(operator);
        self.at += usize::from(is);
        is
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let is = self.is_name(name);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, operator: &str) -> Result<(), TemplateFailure> {
        match self.skip(operator) {
            true => Ok(()),
            false => self.fail(format!("wanted `{operator}`, found {}", self.found())),
        }
    }

    fn found(&self) -> String {
        match self.peek() {
            None => "the end of the template".to_owned(),
            Some(TemplateToken::BlockEnd) => "the end of a block".to_owned(),
            Some(TemplateToken::PrintEnd) => "the end of a print".to_owned(),
            Some(TemplateToken::Operator(operator)) => format!("`{operator}`"),
            Some(TemplateToken::Name(name)) => format!("`{name}`"),
            Some(token) => format!("{token:?}"),
        }
    }

    fn name(&mut self) -> Result<String, TemplateFailure> {
        match self.peek() {
            Some(TemplateToken::Name(name)) if !name.starts_with(|c: char| c.is_ascii_digit()) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.fail(format!("wanted a name, found {}", self.found())),
        }
    }

    fn block_end(&mut self) -> Result<(), TemplateFailure> {
        match self.next() {
            Some(TemplateToken::BlockEnd) => Ok(()),
            _ => {
                self.at -= 1;
                self.fail(format!("wanted the end of the block, found {}", self.found()))
            }
        }
    }

    /// Runs a part of the parser one level deeper.
    fn deeper<T>(
        &mut self,
        part: impl FnOnce(&mut Self) -> Result<T, TemplateFailure>,
    ) -> Result<T, TemplateFailure> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(format!("more than {MAX_DEPTH} levels of nesting"));
        }
        let parsed = part(self);
        self.depth -= 1;
        parsed
    }

    /// Counts one more operator in a row: each is a level of the syntax tree.
    fn link(&mut self, n: &mut usize) -> Result<(), TemplateFailure> {
        *n += 1;
        match *n > MAX_DEPTH {
            true => self.fail(format!("more than {MAX_DEPTH} operators in a row")),
            false => Ok(()),
        }
    }

    /// Statements up to one of the tags `ends`, whose name was taken; none at the end of the
    /// template.
    fn body(&mut self, ends: &[&str]) -> Result<(Vec<Statement>, Option<String>), TemplateFailure> {
        self.deeper(|parser| {
            let mut body = Vec::new();
            while let Some(token) = parser.next() {
                match token {
                    TemplateToken::Data(text) => body.push(Statement::Text(text)),
                    TemplateToken::PrintBegin => {
                        let value = parser.tuple(true)?;
                        match parser.next() {
                            Some(TemplateToken::PrintEnd) => body.push(Statement::Print(value)),
                            _ => {
                                parser.at -= 1;
                                let found = parser.found();
                                return parser
                                    .fail(format!("wanted the end of the print, found {found}"));
                            }
                        }
                    }
                    TemplateToken::BlockBegin => {
                        let tag = parser.name()?;
                        if ends.contains(&&tag[..]) {
                            return Ok((body, Some(tag)));
                        }
                        body.push(parser.statement(&tag)?);
                    }
                    _ => return parser.fail("a token outside of a tag"),
                }
            }
            match ends {
                [] => Ok((body, None)),
                _ => parser.fail(format!("the template ends without `{}`", ends.join("` or `"))),
            }
        })
    }

    /// Statements up to the tag `end`, with its end.
    fn body_until(&mut self, end: &str) -> Result<Vec<Statement>, TemplateFailure> {
        let (body, _) = self.body(&[end])?;
        self.block_end()?;
        Ok(body)
    }

    /// A body with variables of its own, below which conditions do not count.
    fn inner<T>(
        &mut self,
        part: impl FnOnce(&mut Self) -> Result<T, TemplateFailure>,
    ) -> Result<T, TemplateFailure> {
        let before = std::mem::replace(&mut self.is_conditional, false);
        let parsed = part(self);
        self.is_conditional = before;
        parsed
    }

    fn statement(&mut self, tag: &str) -> Result<Statement, TemplateFailure> {
        match tag {
            "if" => self.if_statement(),
            "for" => self.for_statement(),
            "set" => self.set_statement(),
            "macro" => {
                let name = self.name()?;
                let definition = self.macro_definition(name, "endmacro", true)?;
                Ok(Statement::Macro(Arc::new(definition)))
            }
            "call" => self.call_statement(),
            "filter" => {
                let filters = self.filter_chain()?;
                self.block_end()?;
                let body = self.inner(|parser| parser.body_until("endfilter"))?;
                Ok(Statement::FilterBlock { filters, body })
            }
            "with" => self.with_statement(),
            "block" => self.block_statement(),
            "generation" => {
                self.block_end()?;
                // the body is a macro's in Jinja, so that no loop around it can be left
                let n_loops = std::mem::replace(&mut self.n_loops, 0);
                let body = self.inner(|parser| parser.body_until("endgeneration"));
                self.n_loops = n_loops;
                Ok(Statement::Generation(body?))
            }
            "print" => {
                let mut values = vec![self.expression()?];
                while self.skip(",") {
                    values.push(self.expression()?);
                }
                self.block_end()?;
                Ok(Statement::Print(Expression::Concat(values)))
            }
            "break" | "continue" if self.n_loops == 0 => {
                self.fail(format!("`{tag}` outside of a loop"))
            }
            "break" => self.block_end().map(|()| Statement::Break),
            "continue" => self.block_end().map(|()| Statement::Continue),
            "include" | "import" | "from" | "extends" => {
                while !matches!(self.peek(), None | Some(TemplateToken::BlockEnd)) {
                    self.at += 1;
                }
                self.block_end()?;
                Ok(Statement::Unavailable(tag.to_owned()))
            }
            other => self.fail(format!("unknown tag `{other}`")),
        }
    }

    fn if_statement(&mut self) -> Result<Statement, TemplateFailure> {
        let before = std::mem::replace(&mut self.is_conditional, true);
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        let mut condition = self.tuple(false)?;
        self.block_end()?;
        loop {
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((condition, body));
            match end.as_deref() {
                Some("elif") => {
                    condition = self.tuple(false)?;
                    self.block_end()?;
                }
                Some("else") => {
                    self.block_end()?;
                    otherwise = self.body_until("endif")?;
                    break;
                }
                _ => {
                    self.block_end()?;
                    break;
                }
            }
        }
        self.is_conditional = before;
        Ok(Statement::If { branches, otherwise })
    }

    fn for_statement(&mut self) -> Result<Statement, TemplateFailure> {
        let target = self.target(false)?;
        if matches!(&target, Target::Name(name) if name == "loop") {
            return self.fail("`loop` cannot be assigned to");
        }
        if !self.skip_name("in") {
            return self.fail(format!("wanted `in`, found {}", self.found()));
        }
        let iterable = self.tuple_until(false, &["recursive"])?;
        let condition = match self.skip_name("if") {
            true => Some(self.expression()?),
            false => None,
        };
        let is_recursive = self.skip_name("recursive");
        self.block_end()?;
        self.n_loops += 1;
        let (body, end) = self.inner(|parser| parser.body(&["endfor", "else"]))?;
        self.n_loops -= 1;
        self.block_end()?;
        let otherwise = match end.as_deref() {
            Some("else") => self.inner(|parser| parser.body_until("endfor"))?,
            _ => Vec::new(),
        };
        let parsed = ForLoop { target, iterable, condition, is_recursive, body, otherwise };
        Ok(Statement::For(Arc::new(parsed)))
    }

    fn set_statement(&mut self) -> Result<Statement, TemplateFailure> {
        let target = self.target(true)?;
        if self.skip("=") {
            let value = self.tuple(true)?;
            self.block_end()?;
            return Ok(Statement::Set { target, value });
        }
        let mut filters = Vec::new();
        while self.skip("|") {
            filters.push(self.filter_call()?);
        }
        self.block_end()?;
        let body = self.inner(|parser| parser.body_until("endset"))?;
        Ok(Statement::SetBlock { target, filters, body })
    }

    /// `name`, `namespace.name`, or several of them.
    fn target(&mut self, with_namespace: bool) -> Result<Target, TemplateFailure> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            if self.skip("(") {
                targets.push(self.deeper(|parser| parser.target(with_namespace))?);
                self.expect(")")?;
            } else {
                let name = self.name()?;
                if ["true", "false", "none", "True", "False", "None"].contains(&&name[..]) {
                    return self.fail(format!("`{name}` cannot be assigned to"));
                }
                targets.push(match with_namespace && self.skip(".") {
                    true => Target::Attribute(name, self.name()?),
                    false => Target::Name(name),
                });
            }
            if !self.skip(",") {
                break;
            }
            is_tuple = true;
            if self.is_name("in") || self.is("=") || self.is(")") {
                break;
            }
        }
        match (is_tuple, targets.pop()) {
            (false, Some(only)) => Ok(only),
            (_, last) => {
                targets.extend(last);
                Ok(Target::Tuple(targets))
            }
        }
    }

    fn with_statement(&mut self) -> Result<Statement, TemplateFailure> {
        let mut assignments = Vec::new();
        while !matches!(self.peek(), Some(TemplateToken::BlockEnd)) {
            if !assignments.is_empty() {
                self.expect(",")?;
            }
            let target = Target::Name(self.name()?);
            self.expect("=")?;
            assignments.push((target, self.expression()?));
        }
        self.block_end()?;
        let body = self.inner(|parser| parser.body_until("endwith"))?;
        Ok(Statement::Scope { assignments, body })
    }

    fn block_statement(&mut self) -> Result<Statement, TemplateFailure> {
        let name = self.name()?;
        if self.blocks.contains(&name) {
            return self.fail(format!("block `{name}` twice"));
        }
        self.blocks.push(name.clone());
        let _ = self.skip_name("scoped");
        self.block_end()?;
        let n_loops = std::mem::replace(&mut self.n_loops, 0);
        let (body, _) = self.inner(|parser| parser.body(&["endblock"]))?;
        self.n_loops = n_loops;
        let _ = self.skip_name(&name);
        self.block_end()?;
        Ok(Statement::Scope { assignments: Vec::new(), body })
    }

    /// `filter | filter(…)`
    fn filter_chain(&mut self) -> Result<Vec<FilterCall>, TemplateFailure> {
        let mut filters = vec![self.filter_call()?];
        while self.skip("|") {
            filters.push(self.filter_call()?);
        }
        Ok(filters)
    }

    /// A filter's name and arguments.
    fn filter_call(&mut self) -> Result<FilterCall, TemplateFailure> {
        let name = self.dotted_name()?;
        self.check_known(0, "filter", &name)?;
        let arguments = match self.is("(") {
            true => self.arguments()?,
            false => ArgumentList::default(),
        };
        Ok(FilterCall { name, arguments })
    }

    fn dotted_name(&mut self) -> Result<String, TemplateFailure> {
        let mut name = self.name()?;
        while self.skip(".") {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(name)
    }

    fn check_known(&self, which: usize, what: &str, name: &str) -> Result<(), TemplateFailure> {
        match self.is_conditional || self.known[which](name) {
            true => Ok(()),
            false => self.fail(format!("no {what} named `{name}`")),
        }
    }
}
