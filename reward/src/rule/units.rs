//! Words and letters behind a number: units, which are not compared, names of what is counted,
//! which are, and words that scale the number.
//!
//! It does not know where in an answer they stand.

/// Units with several letters that are written without a space behind their number too, or stand
/// behind a root or a constant.
const UNITS: [&str; 52] = [
    "km", "cm", "mm", "nm", "dm", "kg", "mg", "ml", "mL", "ms", "min", "hr", "hrs", "sec", "secs",
    "ft", "in", "yd", "mi", "mph", "kmph", "kmh", "lb", "lbs", "oz", "gal", "sq", "cc", "am", "pm",
    "AM", "PM", "th", "st", "nd", "rd", "deg", "rad", "kJ", "kW", "Hz", "Pa", "eV", "mol", "USD",
    "EUR", "cents", "GB", "MB", "kB", "kWh", "dB",
];

/// Units of one letter: behind a space and a plain number, or at once behind a number in text.
const LETTERS: [&str; 8] = ["m", "s", "g", "h", "l", "L", "W", "N"];

/// Units as words, in the singular.
const UNIT_WORDS: [&str; 52] = [
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
    "decade",
    "meter",
    "metre",
    "kilometer",
    "kilometre",
    "centimeter",
    "centimetre",
    "millimeter",
    "millimetre",
    "mile",
    "foot",
    "feet",
    "inch",
    "inche",
    "yard",
    "gram",
    "kilogram",
    "pound",
    "ounce",
    "ton",
    "liter",
    "litre",
    "gallon",
    "milliliter",
    "dollar",
    "euro",
    "cent",
    "unit",
    "square",
    "cubic",
    "degree",
    "radian",
    "percent",
    "point",
    "joule",
    "watt",
    "newton",
    "volt",
    "ampere",
    "ohm",
    "hertz",
    "kelvin",
    "celsiu",
    "fahrenheit",
    "mole",
];

/// Words behind a number that do something with it.
const ARITHMETIC: [&str; 17] = [
    "mod",
    "choose",
    "plus",
    "minus",
    "over",
    "squared",
    "cubed",
    "factorial",
    "half",
    "halves",
    "third",
    "thirds",
    "quarter",
    "quarters",
    "fourths",
    "fifths",
    "divided",
];

/// Words behind a number that begin a sentence about it.
const OTHER_WORDS: [&str; 9] =
    ["times", "for", "where", "less", "more", "not", "but", "when", "otherwise"];

/// Words that multiply the number before them.
const SCALES: [(&str, u64); 6] = [
    ("dozen", 12),
    ("hundred", 100),
    ("thousand", 1_000),
    ("million", 1_000_000),
    ("billion", 1_000_000_000),
    ("trillion", 1_000_000_000_000),
];

/// Words that another word of their kind replaces, also inside of `\text{…}`.
const DISTINCT: [&str; 40] = [
    "am",
    "pm",
    "north",
    "south",
    "east",
    "west",
    "northeast",
    "northwest",
    "southeast",
    "southwest",
    "left",
    "right",
    "up",
    "down",
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "jan",
    "feb",
    "mar",
    "apr",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
    "ad",
    "bc",
    "bce",
];

/// Points of the compass as letters, inside of `\text{…}`.
const COMPASS: [&str; 8] = ["N", "S", "E", "W", "NE", "NW", "SE", "SW"];

/// What a unit stands behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitPlace {
    /// At once behind a number, or behind a command.
    Adjacent,
    /// Behind a space and a number.
    BehindNumber,
    /// Behind a space and a root, a fraction or a constant.
    BehindCommand,
}

/// Whether letters behind a number may be its unit or what is counted, not symbols.
pub(super) fn is_unit(letters: &str, place: UnitPlace) -> bool {
    let is_known = is_known(letters);
    match (letters.len(), place) {
        (1, place) => place == UnitPlace::BehindNumber && LETTERS.contains(&letters),
        (2, _) => is_known,
        (_, UnitPlace::BehindNumber) => {
            !OTHER_WORDS.contains(&letters) && !ARITHMETIC.contains(&letters)
        }
        (_, UnitPlace::BehindCommand) => is_known,
        (_, UnitPlace::Adjacent) => UNITS.contains(&letters),
    }
}

/// Whether letters at once behind a number in plain text leave it whole: `5cm`, `140apples`.
pub(super) fn may_touch(letters: &str) -> bool {
    letters.len() > 2 || is_known(letters) || LETTERS.contains(&letters)
}

/// Whether a text behind a number may be its unit or what is counted, not a word for arithmetic.
pub(super) fn is_unit_text(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    !ARITHMETIC.contains(&first)
}

/// By how much a word multiplies the number before it.
pub(super) fn scale(word: &str) -> Option<u64> {
    SCALES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, scale)| *scale)
}

/// What is counted, by words outside of `\text{…}`: those that are no units.
pub(super) fn counted(word: &str) -> Option<String> {
    let word = word.to_lowercase();
    let is_distinct = DISTINCT.contains(&word.as_str());
    (word.len() > 1 && (is_distinct || !is_known(&word)))
        .then(|| if is_distinct { word } else { word.trim_end_matches('s').to_owned() })
}

/// What tells two quantities apart, by words inside of `\text{…}`: a direction, a month, a time
/// of day. Other texts are units.
pub(super) fn distinct(text: &str) -> Option<String> {
    let words = text.split_whitespace().map(|word| word.replace('.', ""));
    let is_distinct = |word: &String| {
        COMPASS.contains(&word.as_str()) || DISTINCT.contains(&word.to_lowercase().as_str())
    };
    let found: Vec<String> = words.filter(is_distinct).map(|word| word.to_lowercase()).collect();
    (!found.is_empty()).then(|| found.join(" "))
}

fn is_known(letters: &str) -> bool {
    let singular = letters.strip_suffix('s').unwrap_or(letters);
    UNITS.contains(&letters)
        || UNIT_WORDS
            .iter()
            .any(|unit| letters.eq_ignore_ascii_case(unit) || singular.eq_ignore_ascii_case(unit))
}
