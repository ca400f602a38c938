//! Units behind numbers, which are not compared.

/// Units that are written without a space behind their number, or have one letter.
const UNITS: [&str; 52] = [
    "m", "s", "g", "h", "l", "L", "km", "cm", "mm", "nm", "dm", "kg", "mg", "ml", "mL", "min",
    "hr", "hrs", "sec", "secs", "ft", "in", "yd", "mi", "mph", "kmph", "kmh", "lb", "lbs", "oz",
    "gal", "sq", "cc", "am", "pm", "AM", "PM", "th", "st", "nd", "rd", "deg", "rad", "kJ", "kW",
    "Hz", "cents", "mol", "USD", "EUR", "W", "N",
];

/// Words behind a number that belong to the mathematics.
const WORDS: [&str; 6] = ["mod", "choose", "if", "for", "where", "times"];

/// Whether letters behind a number are its unit. A single letter without space is a symbol.
pub(super) fn is_unit(letters: &str, has_space: bool) -> bool {
    let is_known = UNITS.contains(&letters);
    match (letters.len(), has_space) {
        (1, has_space) => has_space && is_known,
        (_, true) => !WORDS.contains(&letters),
        (_, false) => is_known,
    }
}
