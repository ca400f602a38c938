//! Commands of LaTeX that change how an answer looks, not what it says.
//!
//! It does not know the commands of mathematics (`commands`).

/// Commands without an argument, and those whose argument is read like all else.
pub(super) const SPACES: [&str; 40] = [
    "quad",
    "qquad",
    "left",
    "right",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "displaystyle",
    "textstyle",
    "scriptstyle",
    "limits",
    "nolimits",
    "mleft",
    "mright",
    "boxed",
    "fbox",
    "underline",
    "bf",
    "rm",
    "it",
    "sf",
    "tt",
    "tiny",
    "scriptsize",
    "footnotesize",
    "small",
    "normalsize",
    "large",
    "Large",
    "LARGE",
    "huge",
    "Huge",
    "thinspace",
    "enspace",
    "nobreakspace",
];

/// Commands whose argument is dropped with them.
pub(super) const DROPPED: [&str; 8] =
    ["color", "textcolor", "phantom", "hphantom", "vphantom", "hspace", "label", "tag"];

/// Commands whose argument is text.
pub(super) const TEXTS: [&str; 18] = [
    "text",
    "textbf",
    "textit",
    "textrm",
    "textnormal",
    "texttt",
    "textsf",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "mathtt",
    "mbox",
    "hbox",
    "boldsymbol",
    "bm",
    "operatorname",
    "pmb",
];

/// Marks over symbols, and names of figures: with their argument they are a symbol.
pub(super) const MARKS: [&str; 14] = [
    "vec",
    "hat",
    "widehat",
    "bar",
    "overline",
    "tilde",
    "widetilde",
    "dot",
    "ddot",
    "overrightarrow",
    "overleftrightarrow",
    "angle",
    "triangle",
    "mathcal",
];
