//! The syntax tree of a template.

use std::sync::Arc;

/// A statement, or text between statements.
#[derive(Debug)]
pub(super) enum Statement {
    Text(String),
    /// `{{ … }}`
    Print(Expression),
    If {
        branches: Vec<(Expression, Vec<Statement>)>,
        otherwise: Vec<Statement>,
    },
    For(Arc<ForLoop>),
    Set {
        target: Target,
        value: Expression,
    },
    /// `{% set x | filter %}…{% endset %}`
    SetBlock {
        target: Target,
        filters: Vec<FilterCall>,
        body: Vec<Statement>,
    },
    Macro(Arc<MacroDefinition>),
    /// `{% call(x) f() %}…{% endcall %}`: the body is the macro `caller`.
    CallBlock {
        caller: Arc<MacroDefinition>,
        call: Expression,
    },
    FilterBlock {
        filters: Vec<FilterCall>,
        body: Vec<Statement>,
    },
    /// Statements with variables of their own: `with` and `block`.
    Scope {
        assignments: Vec<(Target, Expression)>,
        body: Vec<Statement>,
    },
    /// `{% generation %}…{% endgeneration %}`: marks what a model has written.
    Generation(Vec<Statement>),
    Break,
    Continue,
    /// A statement that needs other templates.
    Unavailable(String),
}

#[derive(Debug)]
pub(super) struct ForLoop {
    pub(super) target: Target,
    pub(super) iterable: Expression,
    pub(super) condition: Option<Expression>,
    pub(super) is_recursive: bool,
    pub(super) body: Vec<Statement>,
    pub(super) otherwise: Vec<Statement>,
}

#[derive(Debug)]
pub(super) struct MacroDefinition {
    pub(super) name: String,
    /// Names, and defaults of the last ones.
    pub(super) parameters: Vec<(String, Option<Expression>)>,
    pub(super) body: Vec<Statement>,
    /// Names of the body that take further arguments: `varargs`, `kwargs`, `caller`.
    pub(super) takes: ExtraArguments,
}

/// Which of the special names a macro's body uses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExtraArguments {
    pub(super) varargs: bool,
    pub(super) kwargs: bool,
    pub(super) caller: bool,
}

/// Where an assignment goes.
#[derive(Debug)]
pub(super) enum Target {
    Name(String),
    /// `namespace.name`
    Attribute(String, String),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) enum Expression {
    Literal(Literal),
    Name(String),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    Attribute(Box<Expression>, String),
    Item(Box<Expression>, Box<Expression>),
    Slice {
        value: Box<Expression>,
        /// Start, stop and step.
        bounds: [Option<Box<Expression>>; 3],
    },
    Call {
        callee: Box<Expression>,
        arguments: ArgumentList,
    },
    Filter(Box<Expression>, FilterCall),
    /// `value is name(arguments)`
    Check {
        value: Box<Expression>,
        name: String,
        arguments: ArgumentList,
    },
    Not(Box<Expression>),
    Negative(Box<Expression>),
    Positive(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Arithmetic(Arithmetic, Box<Expression>, Box<Expression>),
    /// `a ~ b ~ c`
    Concat(Vec<Expression>),
    /// `a < b <= c`
    Compare(Box<Expression>, Vec<(CompareOperator, Expression)>),
    Conditional {
        condition: Box<Expression>,
        then: Box<Expression>,
        otherwise: Option<Box<Expression>>,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Literal {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompareOperator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

#[derive(Debug)]
pub(super) struct FilterCall {
    pub(super) name: String,
    pub(super) arguments: ArgumentList,
}

/// Arguments of a call: by position, by name, and from a list and a dictionary.
#[derive(Debug, Default)]
pub(super) struct ArgumentList {
    pub(super) positional: Vec<Expression>,
    pub(super) named: Vec<(String, Expression)>,
    pub(super) more: Option<Box<Expression>>,
    pub(super) more_named: Option<Box<Expression>>,
}
