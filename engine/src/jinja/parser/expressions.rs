//! Tokens of a template to its syntax tree: the expressions, in Jinja's order of precedence.

use super::Parser;
use crate::jinja::ast::{ArgumentList, Arithmetic, CompareOperator, Expression, Literal};
use crate::jinja::failure::TemplateFailure;
use crate::jinja::lexer::TemplateToken;

type Parsed = Result<Expression, TemplateFailure>;

fn boxed(expression: Expression) -> Box<Expression> {
    Box::new(expression)
}

impl Parser {
    /// One expression, or several with commas between them as a tuple.
    pub(super) fn tuple(&mut self, with_condition: bool) -> Parsed {
        self.tuple_until(with_condition, &[])
    }

    /// As [`Parser::tuple`], up to one of the names `ends`.
    pub(super) fn tuple_until(&mut self, with_condition: bool, ends: &[&str]) -> Parsed {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let is_end = matches!(
                self.peek(),
                None | Some(TemplateToken::BlockEnd | TemplateToken::PrintEnd)
            ) || self.is(")")
                || ends.iter().any(|name| self.is_name(name));
            if is_end {
                break;
            }
            items.push(if with_condition { self.expression()? } else { self.or()? });
            if !self.skip(",") {
                break;
            }
            is_tuple = true;
        }
        match (is_tuple, items.len()) {
            (false, 1) => Ok(items.swap_remove(0)),
            (false, _) => self.fail(format!("wanted an expression, found {}", self.found())),
            (true, _) => Ok(Expression::Tuple(items)),
        }
    }

    /// An expression with `a if b else c`.
    pub(super) fn expression(&mut self) -> Parsed {
        self.deeper(|parser| {
            let mut value =
                parser.conditional(parser.has_condition_ahead(), |parser| parser.or())?;
            let mut n = 0;
            while parser.skip_name("if") {
                parser.link(&mut n)?;
                let condition = parser.conditional(true, |parser| parser.or())?;
                let otherwise = match parser.skip_name("else") {
                    true => Some(boxed(parser.conditional(true, |parser| parser.expression())?)),
                    false => None,
                };
                value = Expression::Conditional {
                    condition: boxed(condition),
                    then: boxed(value),
                    otherwise,
                };
            }
            Ok(value)
        })
    }

    /// Parses a part that is below a condition.
    fn conditional(
        &mut self,
        is_conditional: bool,
        part: impl FnOnce(&mut Self) -> Parsed,
    ) -> Parsed {
        let before = self.is_conditional;
        self.is_conditional |= is_conditional;
        let parsed = part(self);
        self.is_conditional = before;
        parsed
    }

    /// Whether the present tag has a conditional expression: what stands before `if` is parsed
    /// before it.
    fn has_condition_ahead(&self) -> bool {
        let in_tag = |(token, _): &&(TemplateToken, usize)| {
            !matches!(token, TemplateToken::BlockEnd | TemplateToken::PrintEnd)
        };
        let mut ahead = self.tokens[self.at.min(self.tokens.len())..].iter().take_while(in_tag);
        let is_condition = |name: &str| matches!(name, "if" | "else");
        ahead.any(|(token, _)| matches!(token, TemplateToken::Name(name) if is_condition(name)))
    }

    fn or(&mut self) -> Parsed {
        let mut left = self.and()?;
        let mut n = 0;
        while self.skip_name("or") {
            self.link(&mut n)?;
            left = Expression::Or(boxed(left), boxed(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed {
        let mut left = self.not()?;
        let mut n = 0;
        while self.skip_name("and") {
            self.link(&mut n)?;
            left = Expression::And(boxed(left), boxed(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Parsed {
        match self.skip_name("not") {
            true => self.deeper(|parser| Ok(Expression::Not(boxed(parser.not()?)))),
            false => self.comparison(),
        }
    }

    fn comparison(&mut self) -> Parsed {
        const OPERATORS: [(&str, CompareOperator); 6] = [
            ("==", CompareOperator::Equal),
            ("!=", CompareOperator::NotEqual),
            ("<=", CompareOperator::LessOrEqual),
            (">=", CompareOperator::GreaterOrEqual),
            ("<", CompareOperator::Less),
            (">", CompareOperator::Greater),
        ];
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let found = OPERATORS.iter().find(|(operator, _)| self.is(operator));
            let operator = if let Some((_, operator)) = found {
                self.at += 1;
                *operator
            } else if self.skip_name("in") {
                CompareOperator::In
            } else if self.is_name("not") && self.comes_second("in") {
                self.at += 2;
                CompareOperator::NotIn
            } else {
                break;
            };
            rest.push((operator, self.sum()?));
        }
        match rest.is_empty() {
            true => Ok(first),
            false => Ok(Expression::Compare(boxed(first), rest)),
        }
    }

    /// Whether the token after the next one is this name.
    fn comes_second(&self, wanted: &str) -> bool {
        let second = self.tokens.get(self.at + 1).map(|(token, _)| token);
        matches!(second, Some(TemplateToken::Name(name)) if name == wanted)
    }

    /// Operands between operators of the same precedence, from the left.
    fn left_associative(
        &mut self,
        operators: &[(&str, Arithmetic)],
        operand: fn(&mut Self) -> Parsed,
    ) -> Parsed {
        let mut left = operand(self)?;
        let mut n = 0;
        while let Some((_, operator)) = operators.iter().find(|(text, _)| self.is(text)) {
            self.at += 1;
            self.link(&mut n)?;
            left = Expression::Arithmetic(*operator, boxed(left), boxed(operand(self)?));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Parsed {
        const OPERATORS: [(&str, Arithmetic); 2] =
            [("+", Arithmetic::Add), ("-", Arithmetic::Subtract)];
        self.left_associative(&OPERATORS, Self::concat)
    }

    fn concat(&mut self) -> Parsed {
        let first = self.product()?;
        if !self.is("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip("~") {
            parts.push(self.product()?);
        }
        Ok(Expression::Concat(parts))
    }

    fn product(&mut self) -> Parsed {
        const OPERATORS: [(&str, Arithmetic); 4] = [
            ("*", Arithmetic::Multiply),
            ("/", Arithmetic::Divide),
            ("//", Arithmetic::FloorDivide),
            ("%", Arithmetic::Modulo),
        ];
        self.left_associative(&OPERATORS, Self::power)
    }

    fn power(&mut self) -> Parsed {
        self.left_associative(&[("**", Arithmetic::Power)], |parser| parser.unary(true))
    }

    fn unary(&mut self, with_filters: bool) -> Parsed {
        self.deeper(|parser| {
            let value = if parser.skip("-") {
                Expression::Negative(boxed(parser.unary(false)?))
            } else if parser.skip("+") {
                Expression::Positive(boxed(parser.unary(false)?))
            } else {
                parser.primary()?
            };
            let value = parser.postfix(value)?;
            if with_filters { parser.filters(value) } else { Ok(value) }
        })
    }

    fn primary(&mut self) -> Parsed {
        match self.peek().cloned() {
            Some(TemplateToken::Name(name)) => {
                self.name()?;
                let literal = match &name[..] {
                    "true" | "True" => Literal::Bool(true),
                    "false" | "False" => Literal::Bool(false),
                    "none" | "None" => Literal::None,
                    _ => {
                        self.used.varargs |= name == "varargs";
                        self.used.kwargs |= name == "kwargs";
                        self.used.caller |= name == "caller";
                        return Ok(Expression::Name(name));
                    }
                };
                Ok(Expression::Literal(literal))
            }
            Some(TemplateToken::Text(first)) => {
                self.at += 1;
                let mut text = first;
                while let Some(TemplateToken::Text(more)) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                Ok(Expression::Literal(Literal::Text(text)))
            }
            Some(TemplateToken::Int(value)) => {
                self.at += 1;
                Ok(Expression::Literal(Literal::Int(value)))
            }
            Some(TemplateToken::Float(value)) => {
                self.at += 1;
                Ok(Expression::Literal(Literal::Float(value)))
            }
            Some(TemplateToken::Operator("(")) => {
                self.at += 1;
                if self.skip(")") {
                    return Ok(Expression::Tuple(Vec::new()));
                }
                let value = self.tuple(true)?;
                self.expect(")")?;
                Ok(value)
            }
            Some(TemplateToken::Operator("[")) => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.is("]") {
                    if !items.is_empty() {
                        self.expect(",")?;
                        if self.is("]") {
                            break;
                        }
                    }
                    items.push(self.expression()?);
                }
                self.expect("]")?;
                Ok(Expression::List(items))
            }
            Some(TemplateToken::Operator("{")) => {
                self.at += 1;
                let mut entries = Vec::new();
                while !self.is("}") {
                    if !entries.is_empty() {
                        self.expect(",")?;
                        if self.is("}") {
                            break;
                        }
                    }
                    let key = self.expression()?;
                    self.expect(":")?;
                    entries.push((key, self.expression()?));
                }
                self.expect("}")?;
                Ok(Expression::Dict(entries))
            }
            _ => self.fail(format!("wanted an expression, found {}", self.found())),
        }
    }

    /// `.name`, `[…]` and `(…)` after a value.
    fn postfix(&mut self, mut value: Expression) -> Parsed {
        let mut n = 0;
        loop {
            self.link(&mut n)?;
            if self.skip(".") {
                value = match self.peek() {
                    Some(&TemplateToken::Int(idx)) => {
                        self.at += 1;
                        let idx = boxed(Expression::Literal(Literal::Int(idx)));
                        Expression::Item(boxed(value), idx)
                    }
                    _ => Expression::Attribute(boxed(value), self.name()?),
                };
            } else if self.skip("[") {
                value = self.subscript(value)?;
            } else if self.is("(") {
                let arguments = self.arguments()?;
                value = Expression::Call { callee: boxed(value), arguments };
            } else {
                return Ok(value);
            }
        }
    }

    fn subscript(&mut self, value: Expression) -> Parsed {
        let mut bounds: [Option<Box<Expression>>; 3] = Default::default();
        let mut n_colons = 0;
        let mut more = Vec::new();
        loop {
            if self.skip(":") {
                n_colons += 1;
                if n_colons > 2 {
                    return self.fail("a slice with more than three parts");
                }
            } else if self.skip("]") {
                break;
            } else if self.skip(",") {
                if n_colons > 0 {
                    return self.fail("a slice in a tuple");
                }
                more.extend(bounds[0].take().map(|item| *item));
            } else if bounds[n_colons].is_some() {
                return self.fail(format!("wanted `]`, found {}", self.found()));
            } else {
                bounds[n_colons] = Some(boxed(self.expression()?));
            }
        }
        let value = boxed(value);
        match (n_colons, bounds) {
            (0, [first, _, _]) if !more.is_empty() => {
                more.extend(first.map(|item| *item));
                Ok(Expression::Item(value, boxed(Expression::Tuple(more))))
            }
            (0, [Some(item), _, _]) => Ok(Expression::Item(value, item)),
            (0, _) => self.fail("an empty subscript"),
            (_, bounds) => Ok(Expression::Slice { value, bounds }),
        }
    }

    /// Filters and checks after a value.
    fn filters(&mut self, mut value: Expression) -> Parsed {
        let mut n = 0;
        loop {
            self.link(&mut n)?;
            if self.skip("|") {
                value = Expression::Filter(boxed(value), self.filter_call()?);
            } else if self.skip_name("is") {
                value = self.check(value)?;
            } else if self.is("(") {
                let arguments = self.arguments()?;
                value = Expression::Call { callee: boxed(value), arguments };
            } else {
                return Ok(value);
            }
        }
    }

    /// The check after `is`.
    fn check(&mut self, value: Expression) -> Parsed {
        let is_negated = self.skip_name("not");
        let name = self.dotted_name()?;
        self.check_known(1, "test", &name)?;
        let is_operand = match self.peek() {
            Some(TemplateToken::Name(next)) => !["else", "or", "and", "is"].contains(&&next[..]),
            Some(TemplateToken::Text(_) | TemplateToken::Int(_) | TemplateToken::Float(_)) => true,
            Some(TemplateToken::Operator(operator)) => ["[", "{"].contains(operator),
            _ => false,
        };
        if self.is_name("is") {
            return self.fail("tests with `is` cannot be chained");
        }
        let arguments = if self.is("(") {
            self.arguments()?
        } else if is_operand {
            let operand = self.primary()?;
            ArgumentList { positional: vec![self.postfix(operand)?], ..ArgumentList::default() }
        } else {
            ArgumentList::default()
        };
        let check = Expression::Check { value: boxed(value), name, arguments };
        Ok(if is_negated { Expression::Not(boxed(check)) } else { check })
    }

    /// `(a, *b, c=d, **e)`
    pub(super) fn arguments(&mut self) -> Result<ArgumentList, TemplateFailure> {
        let mut list = ArgumentList::default();
        let mut is_first = true;
        self.expect("(")?;
        while !self.is(")") {
            if !is_first {
                self.expect(",")?;
                if self.is(")") {
                    break;
                }
            }
            is_first = false;
            let is_named =
                matches!(self.tokens.get(self.at + 1), Some((TemplateToken::Operator("="), _)));
            if self.skip("**") {
                list.more_named = Some(boxed(self.expression()?));
            } else if self.skip("*") {
                list.more = Some(boxed(self.expression()?));
            } else if is_named && matches!(self.peek(), Some(TemplateToken::Name(_))) {
                let name = self.name()?;
                self.expect("=")?;
                list.named.push((name, self.expression()?));
            } else if !list.named.is_empty() || list.more_named.is_some() {
                return self.fail("an argument by position after one by name");
            } else {
                list.positional.push(self.expression()?);
            }
        }
        self.expect(")")?;
        Ok(list)
    }
}
