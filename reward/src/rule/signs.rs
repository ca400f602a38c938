//! Single characters that stand for a command, an exponent or a fraction.
//!
//! It does not know tokens.

/// The sign that a superscript raises.
pub(super) fn superscript(sign: char) -> Option<char> {
    const RAISED: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻";
    RAISED.chars().zip("0123456789-".chars()).find(|(raised, _)| *raised == sign).map(|(_, c)| c)
}

/// The digits above and below the line of a fraction that is one character.
pub(super) fn fraction(sign: char) -> Option<&'static str> {
    const FRACTIONS: [(char, &str); 17] = [
        ('½', "12"),
        ('⅓', "13"),
        ('⅔', "23"),
        ('¼', "14"),
        ('¾', "34"),
        ('⅕', "15"),
        ('⅖', "25"),
        ('⅗', "35"),
        ('⅘', "45"),
        ('⅙', "16"),
        ('⅚', "56"),
        ('⅛', "18"),
        ('⅜', "38"),
        ('⅝', "58"),
        ('⅞', "78"),
        ('⅐', "17"),
        ('⅑', "19"),
    ];
    FRACTIONS.into_iter().find(|(c, _)| *c == sign).map(|(_, digits)| digits)
}

/// The name of the command of a Greek letter.
pub(super) fn greek(letter: char) -> Option<&'static str> {
    Some(match letter {
        'π' => "pi",
        'α' => "alpha",
        'β' => "beta",
        'γ' => "gamma",
        'δ' => "delta",
        'ε' => "epsilon",
        'θ' => "theta",
        'λ' => "lambda",
        'μ' => "mu",
        'σ' => "sigma",
        'τ' => "tau",
        'φ' => "phi",
        'ω' => "omega",
        _ => return None,
    })
}
