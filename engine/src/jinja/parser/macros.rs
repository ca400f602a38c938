//! Macros, and the calls that pass a body to one.

use std::sync::Arc;

use super::Parser;
use crate::jinja::ast::{Expression, MacroDefinition, Statement};
use crate::jinja::failure::TemplateFailure;

impl Parser {
    /// Parameters and body of a macro, after its name.
    pub(super) fn macro_definition(
        &mut self,
        name: String,
        end: &str,
        has_parameters: bool,
    ) -> Result<MacroDefinition, TemplateFailure> {
        let parameters = if has_parameters { self.parameters()? } else { Vec::new() };
        self.block_end()?;
        let used = std::mem::take(&mut self.used);
        let n_loops = std::mem::replace(&mut self.n_loops, 0);
        let body = self.inner(|parser| parser.body_until(end));
        self.n_loops = n_loops;
        let takes = std::mem::replace(&mut self.used, used);
        Ok(MacroDefinition { name, parameters, body: body?, takes })
    }

    fn parameters(&mut self) -> Result<Vec<(String, Option<Expression>)>, TemplateFailure> {
        let mut parameters: Vec<(String, Option<Expression>)> = Vec::new();
        self.expect("(")?;
        while !self.is(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
            }
            let name = self.name()?;
            if parameters.iter().any(|(known, _)| *known == name) {
                return self.fail(format!("parameter `{name}` twice"));
            }
            let default = match self.skip("=") {
                true => Some(self.expression()?),
                false if parameters.iter().any(|(_, default)| default.is_some()) => {
                    return self.fail("a parameter without default after one with it");
                }
                false => None,
            };
            parameters.push((name, default));
        }
        self.expect(")")?;
        Ok(parameters)
    }

    pub(super) fn call_statement(&mut self) -> Result<Statement, TemplateFailure> {
        let parameters = if self.is("(") { self.parameters()? } else { Vec::new() };
        let call = self.expression()?;
        if !matches!(call, Expression::Call { .. }) {
            return self.fail("`call` wants a call");
        }
        let mut caller = self.macro_definition("caller".to_owned(), "endcall", false)?;
        caller.parameters = parameters;
        Ok(Statement::CallBlock { caller: Arc::new(caller), call })
    }
}
