//! The checker itself, on small trees that break one rule each.

use std::collections::BTreeMap;

use super::imports::{CrateFiles, circles};
use super::rules;
use super::text::{without_comments_and_strings, without_tests};
use super::tree::TextFile;

/// Asserts the circles of a crate, each as its files with blanks between.
fn check_circles(files: &[(&str, &str)], wanted: &[&str]) {
    let files = CrateFiles::new(files.iter().copied());
    let imports = files.imports();
    let found: Vec<String> = circles(&imports).iter().map(|circle| circle.join(" ")).collect();
    assert_eq!(found, wanted, "{imports:?}");
}

/// Asserts what a file of a crate imports from.
fn check_imports(files: &[(&str, &str)], file: &str, wanted: &[&str]) {
    let files = CrateFiles::new(files.iter().copied());
    let imports = files.imports();
    assert_eq!(imports[file].iter().copied().collect::<Vec<_>>(), wanted);
}

#[test]
fn circles_of_two_files_are_found_however_the_path_is_written() {
    let lib = ("lib.rs", "mod a;\nmod b;");
    for to_b in [
        "use crate::b::B;",
        "pub(crate) use crate::{b::{B, C}};",
        "use super::b::*;",
        "use crate::b;\nfn f() -> b::B {}",
        "use crate::b as other;\nfn f() -> other::B {}",
        "use crate::{b::{self}};\nfn f() -> b::B {}",
        "fn f() -> crate::b::B {}",
        "fn f(x: Vec<super::b::B>) {}",
        "#[derive(Debug)]\nuse crate::b::B;",
        "fn f() { use crate::b::B; }",
    ] {
        check_circles(&[lib, ("a.rs", to_b), ("b.rs", "use super::a::A;")], &["a.rs b.rs"]);
        check_circles(&[lib, ("a.rs", to_b), ("b.rs", "struct B;")], &[]);
    }
}

#[test]
fn circles_through_three_files_and_folders_are_found() {
    let files = [
        ("main.rs", "mod x;\nmod y;"),
        ("x/mod.rs", "mod deep;\npub(crate) struct X;"),
        ("x/deep.rs", "use crate::y::Y;"),
        ("y.rs", "mod z;\nfn f() { z::g() }"),
        ("y/z.rs", "use crate::x::deep::Deep;"),
    ];
    check_circles(&files, &["x/deep.rs y.rs y/z.rs"]);
}

#[test]
fn circles_of_a_child_and_the_parent_that_uses_it_are_found() {
    let child = ("a/child.rs", "use super::Parent;");
    let lib = ("lib.rs", "mod a;");
    check_circles(&[lib, child, ("a.rs", "mod child;\nuse child::C;")], &["a.rs a/child.rs"]);
    check_circles(
        &[lib, child, ("a/mod.rs", "mod child;\nfn f() { child::g() }")],
        &["a/child.rs a/mod.rs"],
    );
    check_circles(&[lib, child, ("a.rs", "mod child;\nstruct Parent;")], &[]);
    let again = ("a.rs", "use crate::A;");
    check_circles(&[("lib.rs", "mod a;\npub use a::A;"), again], &["a.rs lib.rs"]);
}

#[test]
fn imports_of_a_child_from_its_sibling_are_none_from_the_parent() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b;\nmod c;"),
        ("a/b.rs", "use super::c::C;\nuse super::super::a::c;\npub(in crate::a) fn f() {}"),
        ("a/c.rs", ""),
    ];
    check_imports(&files, "a/b.rs", &["a/c.rs"]);
}

#[test]
fn imports_in_tests_comments_and_strings_do_not_count() {
    let text = r##"
        // use crate::b::B;
        /* crate::b::B /* nested */ crate::b::B */
        /// [`crate::b::B`]
        const TEXT: &str = "crate::b::B \" crate::b::B";
        const RAW: &[u8] = br#"crate::b::B " crate::b::B"#;
        const QUOTE: char = '"'; fn f<'a>(x: &'a str) -> std::fmt::Result {}
        #[cfg(test)]
        use crate::b::B;
        #[cfg(test)]
        #[expect(dead_code)]
        fn helper() { if true { crate::b::f() } }
        #[cfg(test)]
        mod tests { use crate::b::B; fn f() { { } } }
        fn after() -> crate::c::C {}
    "##;
    let files = [("lib.rs", "mod a;\nmod b;\nmod c;"), ("a.rs", text), ("b.rs", ""), ("c.rs", "")];
    check_imports(&files, "a.rs", &["c.rs"]);
}

#[test]
fn test_files_are_those_below_a_module_for_tests() {
    let files = CrateFiles::new([
        ("lib.rs", "mod a;\n#[cfg(test)]\nmod tests;"),
        ("a.rs", "#[cfg(test)]\nmod checks;\nmod b;"),
        ("a/b.rs", ""),
        ("a/checks.rs", "mod more;"),
        ("a/checks/more.rs", ""),
        ("tests.rs", ""),
    ]);
    let tests: Vec<&str> = files.test_files().into_iter().collect();
    assert_eq!(tests, ["a/checks.rs", "a/checks/more.rs", "tests.rs"]);
}

#[test]
fn text_without_tests_keeps_what_comes_after_them() {
    let text = "a\n#[cfg(test)]\nfn f(x: [u8; 2]) {}\nb\n#[cfg(test)]\nmod tests;\nc";
    let (left, modules) = without_tests(&without_comments_and_strings(text));
    assert_eq!(
        (left.split_whitespace().collect(), &modules[..]),
        (vec!["a", "b", "c"], &["tests".to_owned()][..])
    );
}

fn file(path: &str, text: &str) -> TextFile {
    TextFile { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn files_that_are_too_long_too_wide_without_head_or_name_are_named() {
    let wide = format!("//! A head.\n// {}\n", "é".repeat(98));
    let files = [
        file("a/src/long.rs", &"//! A head.\n".repeat(451)),
        file("a/src/fits.rs", &"//! A head.\n".repeat(450)),
        file("a/src/wide.rs", &wide),
        file("a/src/narrow.rs", &wide.replacen('é', "", 1)),
        file("a/src/bare.rs", "use std::fmt;\n"),
        file("a/src/utils.rs", "//! A head.\n"),
    ];
    assert_eq!(rules::too_long(files.iter()), ["a/src/long.rs has 451 lines, wanted at most 450"]);
    let wanted = ["a/src/wide.rs:2 has 101 columns, wanted at most 100"];
    assert_eq!(rules::too_wide(files.iter()), wanted);
    assert_eq!(rules::without_head(files.iter()), ["a/src/bare.rs does not begin with `//! `"]);
    assert_eq!(rules::without_name(files.iter()), ["a/src/utils.rs has a name that says nothing"]);
}

#[test]
fn type_names_of_two_files_are_found_and_those_of_tests_are_not() {
    let files = [
        file("a/src/x.rs", "struct Twice;\nenum Once { }\n#[cfg(test)]\nstruct Tested;"),
        file("b/src/y.rs", "pub(crate) trait Twice {}\nstruct Tested;\n// enum Once"),
    ];
    let wanted = BTreeMap::from([("Twice".to_owned(), vec!["a/src/x.rs", "b/src/y.rs"])]);
    assert_eq!(rules::declared_twice(files.iter()), wanted);
}
