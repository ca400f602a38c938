"""Makes answers.jsonl: pairs of a known answer and a completion, with math-verify's verdict.

    pip install math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 \
        antlr4-python3-runtime==4.13.2
    python tests/golden/make_answers.py

A known answer without math delimiters is given to math-verify between dollar signs, as its
documentation says. Each line holds a name (`category/number`), the known answer (`gold`), the
completion and whether math-verify calls it correct. The file repeats byte for byte.
"""

import json
import logging
import pathlib

from math_verify import parse, verify

logging.disable(logging.CRITICAL)

PAIRS = []


def add(category, gold, completion):
    PAIRS.append((category, gold, completion))


def boxed(category, golds, answers):
    """Every known answer against every answer in a box."""
    for gold in golds:
        for answer in answers:
            add(category, gold, f"So we get \\boxed{{{answer}}}.")


def texts(category, gold, completions):
    for completion in completions:
        add(category, gold, completion)


# one number in many spellings, and near misses
boxed("fractions", ["\\frac{1}{2}", "1/2", "0.5"], [
    "\\frac12", "\\frac{1}{2}", "\\dfrac{1}{2}", "\\tfrac12", "\\frac 12", "\\frac1{2}",
    "\\frac{1}2", "1/2", "0.5", ".5", "0.50", "\\frac{2}{4}", "\\frac{-1}{-2}", "2/4",
    "2", "12", "1", "-\\frac12", "\\frac{1}{3}", "\\frac21", "5", "0.05", "\\frac{1}{2}x",
    "\\left(\\frac{1}{2}\\right)", "{\\frac{1}{2}}", "\\frac{0.5}{1}", "1 / 2", "50\\%",
    "\\cfrac{1}{2}",
])
boxed("negative-fractions", ["-\\frac{3}{4}", "-0.75"], [
    "-\\frac34", "\\frac{-3}{4}", "\\frac{3}{-4}", "-3/4", "-0.75", "-.75", "\u2212\\frac{3}{4}",
    "\\frac34", "0.75", "-\\frac43", "-\\frac{6}{8}", "- \\frac{3}{4}", "(-3)/4", "-\\dfrac{3}{4}",
])
boxed("mixed", ["2\\frac{1}{2}", "\\frac{5}{2}"], [
    "2\\frac{1}{2}", "2\\frac12", "2 \\frac{1}{2}", "\\frac52", "2.5", "5/2", "\\frac{1}{2}",
    "2\\cdot\\frac12", "1", "-2\\frac12", "2\\tfrac{1}{2}", "2+\\frac12", "2\\,\\frac{1}{2}",
])
boxed("negative-mixed", ["-1\\frac34"], ["-\\frac74", "-1.75", "-1\\frac34", "-\\frac14",
    "1\\frac34"])
boxed("rounding", ["\\frac13", "0.333333"], [
    "0.333333", "0.3333333", "0.33", "0.333", "0.3333331", "0.3333335", "0.33333333333",
    "\\frac{1}{3}", "0.333334", "\\frac{333333}{1000000}", "0.33333",
])
boxed("rounding-large", ["123456.7"], [
    "123456.7", "123456.70", "123456.7000001", "123456.70001", "123456.71", "\\frac{1234567}{10}",
    "123,456.7", "123456",
])
boxed("decimal-zeros", ["5", "5.0"], [
    "5", "5.0", "5.00", "5.", "05", "+5", "-5", "5.0000001", "5.1", "\\frac{10}{2}", "10/2", "2+3",
    "0.5", ".5", "50", "5.5", "4.9999999", "4.999999", "\\sqrt{25}", "--5", "(5)", "{5}", "[5]",
])
boxed("zero", ["0"], ["0", "0.0", "-0", "0.0000001", "0.000001", "1-1", "\\frac{0}{5}", "o", "00"])
boxed("thousands", ["1200", "1,200"], [
    "1200", "1,200", "1{,}200", "1,200.0", "1200.00", "1\\!,\\!200", "1,\\!200", "120", "200",
    "12,00",
    "1, 200", "1.2", "1.200", "\\$1,200", "1200\\text{ km}", "12\\times 100", "1,2,0,0", "1,201",
])
boxed("millions", ["1234567", "1,234,567"], [
    "1234567", "1,234,567", "1{,}234{,}567", "1,234567", "1234,567", "1.234567", "567",
    "1,234,567.0", "-1,234,567", "1,234,568",
])
boxed("thousands-decimal", ["1200.5", "1,200.50"], ["1200.5", "1,200.5", "1,200.50", "1200.50",
    "1200", "1,200,5"])
boxed("exponents", ["1000", "10^3", "10^{3}"], [
    "1000", "10^3", "10^{3}", "1\\times10^3", "1 \\times 10^{3}", "10 \\cdot 100", "1,000", "10^2",
    "10^{-3}", "3^{10}", "10**3", "103", "1000.0", "(10)^3", "10^{3.0}", "100^{1.5}",
    "0.1\\cdot10^4",
])
boxed("scientific", ["2\\times10^3", "2000"], [
    "2\\times10^3", "2 \\times 10^{3}", "2\\cdot 10^3", "2000", "2,000", "2.0\\times10^3",
    "0.2\\times 10^4", "20\\times10^2", "2\\times10^4", "2\\times 1000", "2*10^3", "210^3", "2^{3}",
])
boxed("small", ["0.0000001", "10^{-7}", "1\\times10^{-7}"], [
    "0.0000001", "10^{-7}", "1\\times10^{-7}", "1\\times 10^{-8}", "\\frac{1}{10^7}", "10^7",
])
boxed("powers", ["1024", "2^{10}"], ["1024", "2^{10}", "2^10", "4^5", "2^{5}\\cdot 2^{5}",
    "(2^5)^2", "210", "1{,}024", "2^{11}"])
boxed("big-integers", ["12345678901234567890123"], [
    "12345678901234567890123", "12345678901234567890124", "12,345,678,901,234,567,890,123",
    "12345678901234567890123.0", "1.2345678901234567890123\\times10^{22}",
    "12345678901234567890000",
])
boxed("big-powers", ["2^{100}"], [
    "2^{100}", "1267650600228229401496703205376", "1267650600228229401496703205377", "4^{50}",
    "2^{101}",
])
boxed("limits", ["9007199254740993", "18446744073709551616"], [
    "9007199254740993", "9007199254740992", "18446744073709551616", "18446744073709551615",
    "2^{64}",
])
boxed("percent", ["50\\%", "50%"], [
    "50\\%", "50%", "50", "0.5", "\\frac12", "50 \\%", "50\\text{ percent}", "50\\text{percent}",
    "5\\%", "500\\%", "0.50", "50.0\\%", "50 percent", "\\frac{1}{2}", "-50\\%", "50\\,\\%",
])
boxed("percent-fraction", ["12.5\\%"], ["12.5\\%", "12.5", "0.125", "\\frac18", "12.50\\%",
    "1.25", "\\frac{25}{2}\\%"])
boxed("number-percent", ["7", "0.07"], ["7\\%", "7", "0.07", "7.0\\%", "70\\%"])
boxed("units", ["5", "5\\text{ cm}", "5 \\text{ cm}"], [
    "5\\text{ cm}", "5 \\text{ cm}", "5\\,\\text{cm}", "5\\mathrm{cm}", "5\\ \\mathrm{cm}",
    "5~\\text{cm}",
    "5 cm", "5\\text{ cm}^2", "5\\text{ square units}", "5\\mbox{ cm}", "5 \\text{ meters}",
    "6\\text{ cm}",
    "5 apples", "5\\text{ km/h}", "5 km", "5 kg", "5\\text{ m}^3", "5\\;\\text{cm}",
])
boxed("units-decimal", ["2.5 \\text{ hours}"], ["2.5", "2.5\\text{ hours}", "\\frac{5}{2}",
    "2.5 hours", "2.5 h", "25"])
boxed("degrees", ["90^\\circ", "90"], [
    "90^\\circ", "90^{\\circ}", "90", "90 degrees", "90\\text{ degrees}", "90\u00b0",
    "90^\\circ\\text{C}",
    "9^\\circ", "90\\degree", "\\frac{\\pi}{2}", "45^\\circ + 45^\\circ",
])
boxed("currency", ["18.90", "\\$18.90"], [
    "\\$18.90", "18.90", "18.9", "\\$ 18.90", "$18.90$", "\\$18.91", "\\text{\\$}18.90",
    "18.90\\text{ dollars}",
    "\\$1,890", "18.90 dollars", "USD 18.90",
])
boxed("signs", ["-5"], [
    "-5", "\u22125", "- 5", "-5.0", "5", "+5", "-(5)", "(-5)", "-\\frac{10}{2}", "0-5",
    "\u20135", "-\\,5",
])
boxed("plus", ["5"], ["+5", "+ 5", "+5.0", "\\pm 5", "5.0"])
boxed("assignments", ["5", "x = 5", "x=5"], [
    "x = 5", "x=5", "5", "y=5", "5=x", "x=6", "x = \\frac{10}{2}", "x=5.0", "x:5", "n=x=5",
    "2x=10", "x = 2+3 = 5",
    "f(x)=5", "x \\approx 5", "a = 5\\text{ cm}", "x_1 = 5", "AB = 5", "\\text{Area} = 5",
    "x\\in\\{5\\}",
])
boxed("pairs-of-assignments", ["x=1, y=2", "(1,2)"], ["x=1, y=2", "x=1,y=2", "1,2", "(1,2)",
    "y=2,x=1", "x=2, y=1", "x=1\\text{ and }y=2"])
boxed("inequalities", ["x > 3", "x \\geq 3"], ["x>3", "3<x", "x\\ge 3", "x \\geq 3", "3 \\le x",
    "x<3", "(3,\\infty)", "[3,\\infty)", "x>4", "x > 3.0"])
boxed("chains", ["1 < x < 2", "1 < x \\le 2"], ["1<x<2", "(1,2)", "1 < x \\leq 2", "(1,2]",
    "[1,2)", "2>x>1", "1<x<3"])
boxed("intervals", ["[1,2]", "(1,2]", "[1, 2)"], [
    "[1,2]", "(1,2]", "[1,2)", "(1,2)", "[1, 2]", "[1.0,2.0]", "[1,3]", "\\left[1,2\\right]",
    "[2,1]", "1,2",
    "\\{1,2\\}", "x\\in[1,2]", "[1;2]",
])
boxed("infinite-intervals", ["(-\\infty, 3]", "[3, \\infty)"], [
    "(-\\infty,3]", "(-\\infty, 3)", "(-\\infty,4]", "\\left(-\\infty,3\\right]", "[3,\\infty)",
    "[3,+\\infty)", "(3,\\infty)",
    "x\\le 3", "(-inf,3]",
])
boxed("unions", ["(1,2)\\cup(3,4)", "(-\\infty,0)\\cup(0,\\infty)"], [
    "(1,2)\\cup(3,4)", "(3,4)\\cup(1,2)", "(1,2)\\cup(3,5)", "(1,2) \\cup (3,4)",
    "(-\\infty,0)\\cup(0,\\infty)",
    "(-\\infty, 0) \\cup (0, +\\infty)", "[1,2]\\cup[3,4]", "(1,4)",
])
boxed("points", ["(1,2)", "(1, 2)"], [
    "(1,2)", "(1, 2)", "\\left(1,2\\right)", "(1.0, 2)", "(2,1)", "(1,3)", "(1,2,3)", "1,2",
    "[1,2]", "\\{1,2\\}",
    "(\\frac22, 2)", "(1;2)", "(x,y)=(1,2)",
])
boxed("triples", ["(1,2,3)", "(1,\\frac{1}{2},-3)"], [
    "(1,2,3)", "(1, 2, 3)", "(3,2,1)", "1,2,3", "\\{1,2,3\\}", "(1,2)", "(1,0.5,-3)",
    "(1, \\frac12, -3)", "(1,2,4)",
])
boxed("sets", ["\\{1,2,3\\}", "1,2,3", "1, 2, 3"], [
    "\\{1,2,3\\}", "1,2,3", "3,2,1", "\\{3,1,2\\}", "1, 2, 3", "1,2", "1,2,4",
    "\\left\\{1,2,3\\right\\}",
    "1\\text{, }2\\text{, and }3", "1, 2, and 3", "1;2;3", "\\{1,2,3,3\\}", "123", "1,2,3,4", "3",
])
boxed("two-values", ["1,2", "3 \\text{ or } 4", "-1, 1"], [
    "1,2", "2,1", "1\\text{ and }2", "1 and 2", "1\\text{ or }2", "3,4", "4,3", "3\\text{ or }4",
    "3 or 4",
    "\\pm 1", "1,-1", "-1,1", "1", "2", "x=1,2", "x=-1,1", "x=1\\text{ or }x=2", "\\{-1,1\\}",
    "3", "-1",
])
boxed("fraction-lists", ["\\frac12, \\frac13"], ["\\frac12,\\frac13", "0.5,0.333333",
    "\\frac13,\\frac12", "\\frac12,\\frac14", "1/2, 1/3"])
boxed("plus-minus", ["\\pm 3", "2\\pm\\sqrt{3}"], ["\\pm3", "\\pm 3", "-3,3", "3", "3,-3",
    "2\\pm\\sqrt3", "2+\\sqrt3, 2-\\sqrt3", "2\\pm 3", "\\mp 3"])
boxed("roots", ["\\sqrt{2}", "\\sqrt2"], [
    "\\sqrt2", "\\sqrt{2}", "\\sqrt 2", "1.414", "1.41421356", "1.414214", "1.4142136",
    "2^{1/2}", "2^{\\frac12}", "\\frac{2}{\\sqrt2}",
    "2", "\\sqrt{3}", "-\\sqrt2", "\\sqrt[3]{2}", "2\\sqrt2", "2^{0.5}", "\\sqrt{8}/2",
    "\\frac{\\sqrt{8}}{2}",
])
boxed("roots-products", ["3\\sqrt{2}", "\\sqrt{18}"], [
    "3\\sqrt{2}", "\\sqrt{18}", "3\\sqrt2", "\\sqrt2\\cdot3", "4.242641", "4.24264068711929",
    "4.24", "2\\sqrt3", "3", "2", "3\\cdot\\sqrt{2}", "\\sqrt{9\\cdot2}",
])
boxed("roots-fractions", ["\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt2}"], [
    "\\frac{\\sqrt2}{2}", "\\frac{1}{\\sqrt{2}}", "\\sqrt{\\frac12}", "0.707107", "0.7071",
    "\\frac{\\sqrt3}{2}", "\\sqrt{0.5}", "\\frac12\\sqrt2", "\\sqrt2/2",
])
boxed("roots-sums", ["1+\\sqrt{2}", "\\frac{1}{\\sqrt{2}-1}"], ["1+\\sqrt2", "\\sqrt2+1",
    "\\frac{1}{\\sqrt2-1}", "2.414214", "2.41", "1-\\sqrt2", "\\sqrt{3+2\\sqrt{2}}"])
boxed("cube-roots", ["\\sqrt[3]{16}", "2\\sqrt[3]{2}"], ["\\sqrt[3]{16}", "2\\sqrt[3]{2}",
    "16^{1/3}", "2.519842", "\\sqrt{16}", "4", "2^{4/3}"])
boxed("root-powers", ["\\sqrt[3]{8}", "2"], ["2", "\\sqrt[3]{8}", "8^{1/3}", "\\sqrt{4}",
    "\\sqrt[4]{16}", "\\sqrt{2}"])
boxed("pi", ["\\pi", "2\\pi"], [
    "\\pi", "2\\pi", "\u03c0", "3.14", "3.141593", "3.14159265", "6.283185", "\\pi\\cdot 2",
    "2 \\pi", "\\frac{4\\pi}{2}", "2*\\pi", "pi", "\\frac{22}{7}", "2\\pi\\text{ cm}",
])
boxed("pi-fractions", ["\\frac{\\pi}{3}", "\\frac{3\\pi}{4}"], ["\\frac{\\pi}{3}", "\\pi/3",
    "\\frac{1}{3}\\pi", "\\frac\\pi3", "1.047198", "60^\\circ", "\\frac{3\\pi}{4}",
    "\\frac34\\pi", "0.75\\pi", "2.356194"])
boxed("constants", ["e", "e^2"], ["e", "e^2", "e^{2}", "2.718282", "7.389056", "E", "2e",
    "\\exp(2)", "e\\cdot e"])
boxed("logs", ["\\ln 2", "\\log_2 8"], ["\\ln 2", "\\ln(2)", "\\ln{2}", "0.693147", "3",
    "\\log_2 8", "\\log_{2}{8}", "\\frac{\\ln 8}{\\ln 2}", "\\log 2", "-\\ln\\frac12"])
boxed("trigonometry", ["\\frac12", "\\sin x"], ["\\sin 30^\\circ", "\\sin\\frac{\\pi}{6}",
    "\\cos\\frac{\\pi}{3}", "\\sin x", "\\sin(x)", "\\cos x", "\\sin{x}"])
boxed("factorials", ["120", "5!"], ["5!", "120", "5 \\cdot 4!", "5!!", "24", "\\frac{6!}{6}"])
boxed("binomials", ["10", "\\binom{5}{2}"], ["\\binom{5}{2}", "\\binom52", "10",
    "\\dbinom{5}{2}", "\\binom{5}{3}", "\\binom{5}{1}", "\\frac{5!}{2!3!}"])
boxed("letters", ["A", "\\text{A}", "B"], [
    "A", "\\text{A}", "\\textbf{A}", "(A)", "\\text{(A)}", "a", "B", "\\mathrm{A}",
    "\\textbf{(A)}", "A.", "AB", "D", "\\mathbf{B}",
])
boxed("words", ["\\text{Paris}", "Paris", "\\text{even}"], ["\\text{Paris}", "Paris", "paris",
    "\\textbf{Paris}", "London", "\\text{even}", "even", "\\text{odd}", "\\text{Even}"])
boxed("truth", ["\\text{True}", "\\text{Yes}"], ["\\text{True}", "True", "\\text{False}", "true",
    "\\text{Yes}", "\\text{No}", "Yes"])
boxed("sums", ["5+3", "8"], ["8", "5+3", "3+5", "5 + 3", "9", "2^3", "5-3", "16/2", "4\\times2",
    "4 \\cdot 2", "4*2", "\\frac{16}{2}", "10-2"])
boxed("ratios", ["2:3", "\\frac{2}{3}"], ["2:3", "\\frac23", "3:2", "2/3", "4:6", "2 : 3", "3",
    "0.666667"])
boxed("times", ["12:30"], ["12:30", "12:30\\text{ PM}", "12:31", "12.5", "0.4"])
boxed("bases", ["1011_2"], ["1011_2", "1011_{2}", "1011", "11", "1011_3", "1011_{10}"])
boxed("algebra", ["x+1", "2x+3"], ["x+1", "1+x", "x + 1", "x+2", "2x+3", "3+2x", "2\\cdot x+3",
    "2(x+1.5)", "x", "1", "y+1", "2x+3=0", "\\frac{4x+6}{2}", "x + x + 3", "X+1"])
boxed("polynomials", ["x^2-1", "(x-1)(x+1)"], ["x^2-1", "(x-1)(x+1)", "(x+1)(x-1)", "-1+x^2",
    "x^{2}-1", "x^2+1", "(x-1)^2", "x^2", "2", "y = x^2-1", "x*x-1"])
boxed("rational-functions", ["\\frac{x}{x+1}", "1-\\frac{1}{x+1}"], ["\\frac{x}{x+1}",
    "1-\\frac{1}{x+1}", "\\frac{x}{1+x}", "x/(x+1)", "\\frac{2x}{2x+2}", "\\frac{x+1}{x}",
    "\\frac{1}{x+1}"])
boxed("radical-algebra", ["\\sqrt{x}", "x^{1/2}"], ["\\sqrt{x}", "x^{1/2}", "x^{\\frac12}",
    "\\sqrt x", "x", "\\sqrt{y}", "x^{0.5}"])
boxed("functions", ["f(x)=x^2", "y=2x+1"], ["f(x)=x^2", "x^2", "y=x^2", "g(x)=x^2", "y=2x+1",
    "2x+1", "y-2x=1", "y = 1+2x", "y=2x"])
boxed("exponentials", ["e^{x}", "2^x", "2^{n+1}"], ["e^x", "e^{x}", "2^x", "2^{x}", "\\exp(x)",
    "2^{n+1}", "2\\cdot 2^n", "2^n\\cdot2", "2^n", "x^2"])
boxed("subscripts", ["a_1", "x_{10}"], ["a_1", "a_{1}", "x_{10}", "x_10", "a_2", "a1"])
boxed("greek", ["\\alpha", "\\theta+1"], ["\\alpha", "\u03b1", "\\beta", "\\theta+1",
    "1+\\theta", "alpha"])
boxed("absolute", ["|x|", "3"], ["|x|", "|-3|", "\\left|x\\right|", "|3|", "\\left|-3\\right|",
    "x", "-3"])
boxed("floor", ["3"], ["\\lfloor 3.7 \\rfloor", "\\lceil 2.1\\rceil", "\\lfloor 4 \\rfloor"])
boxed("complex", ["3+4i", "i"], ["3+4i", "4i+3", "3 + 4i", "3-4i", "7i", "i", "-i",
    "3+4\\mathrm{i}", "5"])
boxed("complex-products", ["-1", "2i"], ["i^2", "(1+i)^2", "2i", "-1", "i\\cdot i"])
boxed("matrices", ["\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"], [
    "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
    "\\begin{bmatrix} 1 \\\\ 2 \\end{bmatrix}",
    "\\begin{pmatrix} 1 \\\\ 3 \\end{pmatrix}", "\\begin{pmatrix} 1 & 2 \\end{pmatrix}",
    "\\begin{pmatrix} 1.0 \\\\ \\frac42 \\end{pmatrix}", "(1,2)",
])
boxed("matrix-square", ["\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}"], [
    "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}",
    "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}",
    "\\begin{pmatrix} 1 & 3 \\\\ 2 & 4 \\end{pmatrix}", "1,2,3,4",
])
boxed("infinity", ["\\infty", "-\\infty"], ["\\infty", "+\\infty", "-\\infty", "infinity", "0",
    "inf"])
boxed("empty-set", ["\\emptyset", "\\varnothing"], ["\\emptyset", "\\varnothing", "\\{\\}", "0"])
boxed("number-sets", ["\\mathbb{R}", "\\mathbb{Z}"], ["\\mathbb{R}", "(-\\infty,\\infty)",
    "\\mathbb{Z}", "R"])
boxed("spaces", ["5"], ["\\,5", "5\\,", "\\; 5 \\;", "\\quad 5", "5\\ ", "~5", "{ 5 }", "\n5\n",
    "\\displaystyle 5", "\\displaystyle\\frac{10}{2}", "\\mathbf{5}", "\\boldsymbol{5}",
    "\\text{}5"])
boxed("malformed", ["5", "2"], ["\\frac{", "???", "", "...", "\\foo{5}", "5 5", "1.2.3", "+",
    "=", "a5b", "\\frac{5}{0}"])
boxed("ordinals", ["5", "5th"], ["5^{\\text{th}}", "5\\text{th}", "5th", "5"])
boxed("tails", ["5"], ["5.", "5,", "5;", "5!", "5\\text{.}", "\\approx 5", "5 \\approx 5.01",
    "5\\ldots", "\\ldots 5"])
boxed("nested-boxes", ["5"], ["\\boxed{5}", "{{5}}", "\\text{the answer is } 5",
    "\\text{5 apples}", "\\{5\\}", "5\\}"])
boxed("repeating", ["\\frac13", "0.\\overline{3}"], ["0.\\overline{3}", "0.\\bar{3}", "0.333...",
    "\\frac13", "0.3"])

# where the answer stands
texts("numbers-in-text", "140", [
    "The answer is 140.", "The answer is 140", "The answer is $140$.", "The answer is: 140",
    "Answer: 140",
    "answer: 140 apples", "**Answer:** 140", "The final answer is 140.",
    "The final answer is $140$. I hope it is correct.",
    "47 + 93 = 140", "47+93=140", "So it is 140.", "It is 140 or 141.", "It is 141 or 140.",
    "140", " 140 ", "140.0", "I get 140, then 7.",
    "first 7, then 140", "The answer is 14.", "The answer is 1400.", "item140", "$140",
    "costs $140.", "It costs 140$", "It is -140.",
    "The answer is **140**.", "Therefore, 140 is the answer.", "Answer: $x = 140$", "x = 140",
    "x=140", "= 140", "The answer is\n140",
    "The answer is 140!", "(140)", "answer (140)", "\"140\"", "140%", "140 percent", "140,",
    "So 140; done.", "$$140$$", "\\[140\\]", "\\(140\\)",
    "The answer is \\(140\\).", "answer is $\\frac{280}{2}$", "I don't know.", "", "none",
    "one hundred and forty", "The sum is 140 because 47+93 is 140.",
    "The answer is $140$ and not $141$.", "The answer is not 141 but 140.",
])
texts("boxes-in-text", "5", [
    "\\boxed{5}", "$\\boxed{5}$", "\\[\\boxed{5}\\]", "$$\\boxed{5}$$",
    "\\boxed{4} no, \\boxed{5}", "\\boxed{5} no, wait: it must be so that the result is \\boxed{4}",
    "\\boxed{5} and then 7.", "7, so \\boxed{5}", "\\boxed 5", "\\boxed{ 5 }", "\\fbox{5}",
    "\\boxed{5}\\boxed{6}", "\\boxed{5}, \\boxed{6}", "\\boxed{5} and \\boxed{5}",
    "The answer is 4. \\boxed{5}", "\\boxed{4}. The final answer is 5",
    "\\boxed{4}. The final answer is $5$.", "\\boxed{x = 5}", "$x = \\boxed{5}$",
    "$\\boxed{5}\\text{ cm}$", "$\\boxed{5}$ cm",
    "\\boxed{\\text{5}}", "\\boxed{\\mathrm{5}}", "The box \\boxed{} is empty, 5",
    "\\boxed{5} is better than $6$", "**\\boxed{5}**", "\\boxed{5}.", "\\boxed{\\boxed{5}}",
    "\\boxed{{5}}", "\\boxed{5 \\text{ or } 6}", "Final Answer: \\boxed{5}", "\\boxed{5.}",
    "so $a=4$ and the answer is \\boxed{5}", "\\boxed{5}\n\nI hope it helps, see 3 or $4$.",
    "\\boxed{5", "\\boxed{4} and \\boxed{5", "$\\boxed{\\frac{10}{2}}$",
    "\\boxed{\\frac{10}{2}}", "$\\boxed{5}$, $\\boxed{6}$",
    "\\boxed{1}: the first one. Now comes the second one, which is much longer than the first one "
    "was: \\boxed{5}",
])
texts("two-boxes", "5, 6", ["\\boxed{5} and \\boxed{6}", "\\boxed{6}, \\boxed{5}", "\\boxed{5}",
    "\\boxed{5,6}", "$\\boxed{5}$ and $\\boxed{6}$", "\\boxed{5} or \\boxed{6}", "$5$ and $6$",
    "The answer is $5$ and $6$."])
texts("latex-in-text", "\\frac{1}{2}", [
    "The answer is $\\frac{1}{2}$.", "$\\frac12$", "so \\frac{1}{2}",
    "The answer is \\frac{1}{2}.", "1/2", "The answer is 1/2.", "0.5", ".5", "The answer is .5",
    "The answer is 0.5.", "= 1/2",
    "the probability is 1/2", "$x = \\frac{1}{2}$", "$$x = \\frac{1}{2}$$", "\\(\\frac{1}{2}\\)",
    "\\[ x = \\frac{1}{2} \\]", "about 0.5, or 1/2", "1 / 2", "2/4", "(1/2)", "50%",
    "The answer is 50%.", "half", "1/3", "It is 2.",
])
texts("spellings-in-text", "1200.5", ["1,200.50", "It costs $1,200.50.", "1200.5", "1 200.5",
    "The answer is 1,200.5", "$1,200.50$", "\u20ac1,200.50", "1.200,5", "200.5", "1200"])
texts("expressions-in-text", "8", ["5 + 3", "(5+3)", "The answer is 5+3.", "2^3", "2*4", "16/2",
    "The answer is (10 - 2)", "4 \u00d7 2", "10-2", "5-3"])
texts("minus-in-text", "-7", ["It is -7.", "-7", "x = -7", "x = \u22127", "5 -7", "10-17 = -7",
    "item-7", "The answer is -7", "The answer is \u22127.", "7", "- 7", "$-7$"])
texts("points-in-text", "(1,2)", ["The answer is $(1,2)$.", "(1,2)", "The answer is (1, 2).",
    "$(1, 2)$", "$x=1$ and $y=2$", "$(2,1)$"])
texts("expressions-as-answer", "2x+3", ["The answer is $2x+3$.", "$2x+3$", "$y = 2x+3$", "2x+3",
    "The answer is $3+2x$", "$$2x + 3$$", "\\(2x+3\\)"])
texts("gold-in-solution", "We add them, so the answer is $\\boxed{12}$.", ["\\boxed{12}", "12",
    "\\boxed{13}", "The answer is $12$"])
texts("gold-in-dollars", "$\\frac{3}{4}$", ["\\boxed{\\frac34}", "0.75", "3/4", "\\boxed{3}",
    "\\boxed{4}"])

# forms that were misread once
boxed("infix", ["\\frac{3}{56}", "120"], [
    "{3 \\over 56}", "{10 \\choose 3}", "{3 \\over 55}", "{10 \\choose 4}",
])
boxed("angles", ["45^\\circ", "45"], [
    "\\angle A = 45^\\circ", "m\\angle ABC = 45^\\circ", "\\angle A = 54^\\circ",
])
boxed("marks", ["\\vec{a}+\\vec{b}", "\\dot{x}_0 t"], [
    "\\vec{b}+\\vec{a}", "\\vec{a}-\\vec{b}", "t\\dot{x}_0", "\\dot{x}_{0} t", "x_0 t",
    "\\ddot{x}_0 t",
])
boxed("switches", ["7"], ["\\bf 7", "\\large 7", "\\fbox{7}", "\\bf{8}", "{\\large 7}"])
boxed("matrix-forms", ["\\begin{pmatrix} 2 & 4 \\\\ 6 & 8 \\end{pmatrix}"], [
    "\\left(\\begin{matrix}2&4\\\\6&8\\end{matrix}\\right)",
    "\\left[\\begin{array}{cc}2&4\\\\6&8\\end{array}\\right]",
    "2\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "2\\begin{pmatrix}1&2\\\\3&5\\end{pmatrix}",
])
boxed("symbolic-counts", ["\\frac{n(n-1)}{2}", "n!"], [
    "\\binom{n}{2}", "{n \\choose 2}", "\\binom{n}{3}", "n\\cdot (n-1)!", "\\frac{(n+1)!}{n+1}",
    "(n-1)!",
])
boxed("large-counts", ["2024!"], ["2024\\cdot 2023!", "\\frac{2025!}{2025}", "2023!"])
boxed("symbolic-roots", ["\\sqrt[n]{a}"], ["a^{1/n}", "a^{\\frac1n}", "\\sqrt{a}"])
boxed("infinite-ends", ["x > 3", "(1,2)", "(-\\infty,3)"], [
    "(-\\infty,0)", "\\mathbb{R}", "(3,\\infty)", "(2,3)", "(1,\\infty)", "(-\\infty,\\infty)",
])
boxed("sum-assignments", ["m+n=204", "204"], ["204", "m+n=204", "m+n=205", "205"])
boxed("reversed-chains", ["0 < a \\leq \\frac14"], [
    "\\frac14 \\ge a > 0", "0 < a \\le \\frac14", "0 > a \\ge \\frac14",
])
boxed("unread", ["\\sum_{k=1}^{n} k", "\\int_0^1 x\\,dx"], [
    "\\sum_{k=1}^n k", "\\sum_{k=1}^n k^2", "\\int_0^1x\\,dx", "\\int_0^2 x\\,dx",
])
boxed("dots", ["103", "1+2+\\cdots+100"], ["1+2+\\cdots+100", "103", "5050"])
boxed("large-percentages", ["25", "0.5"], ["2500\\%", "250\\%", "25\\%", "0.5\\%"])
boxed("angle-brackets", ["(1,2,3)"], [
    "\\langle 1,2,3\\rangle", "\\left\\langle 1, 2, 3 \\right\\rangle", "\\langle 1,2\\rangle",
])


def pairs(category, *golds_and_answers):
    """Known answers, each against one answer in a box."""
    for gold, answer in golds_and_answers:
        add(category, gold, f"So we get \\boxed{{{answer}}}.")


pairs("letters-as-symbols", ("x-y", "x - y"), ("a-b", "a - b"), ("a-b", "b-a"), ("ab", "a b"),
    ("ab", "a\\cdot b"), ("xyz", "x y z"), ("xyz", "xy z"), ("a-b-c", "a-c-b"),
    ("mgh", "mg\\,h"), ("pq-q", "q(p-1)"), ("abc", "\\frac{2abc}{2}"), ("n-k", "n - k"),
    ("pq", "p q"), ("x-axis", "y-axis"), ("ab", "a b^2"), ("ab", "a+b"))
pairs("counted-things", ("3 red balls", "3 blue balls"), ("5 June", "5 May"),
    ("12 apples and 5 oranges", "5 apples and 12 oranges"), ("5 north", "5 south"),
    ("6:00 AM", "6:00 PM"), ("5", "\\$5 million"), ("5", "5 hundred"), ("5", "5k"))
pairs("symbols-behind-spaces", ("5", "5 xy"), ("5 xy", "5 ab"), ("2 mn", "2 pq"),
    ("4 ab", "4 cd"), ("\\sqrt{2} L", "\\sqrt{2} s"), ("3ab", "3 ab"), ("3 ab", "3ab"),
    ("\\frac{1}{2}gt^2", "\\frac{1}{2} g t^2"), ("\\frac{1}{2} g t^2", "\\frac{1}{2}gt^2"),
    ("2\\sqrt{3}", "2\\sqrt{3} cm"))
pairs("far-points", ("|x-5|", "5-x"), ("5-x", "|x-5|"), ("\\sqrt{(x-4)^2}", "4-x"),
    ("\\lfloor x/5 \\rfloor", "\\lfloor x/7\\rfloor"), ("|u|", "u"), ("|xy|", "xy"),
    ("|x|+|y|", "x+y"), ("10^{-20}\\pi x", "10^{-21}\\pi x"), ("x", "x \\bmod 4"))
pairs("words-in-lists", ("cat and dog", "act and god"), ("Alice, Bob", "Bob, Alice"))
pairs("marks-of-symbols", ("x^{\\prime}", "x"), ("\\{\\emptyset\\}", "\\emptyset"))
texts("dates", "2013", ["It was on 2024-05-06."])


def reference(gold):
    has_math = "$" in gold.replace("\\$", "") or "\\boxed" in gold
    return parse(gold if has_math else f"${gold}$")


def main():
    target = pathlib.Path(__file__).with_name("answers.jsonl")
    counts, lines = {}, []
    for category, gold, completion in PAIRS:
        counts[category] = counts.get(category, 0) + 1
        correct = verify(reference(gold), parse(completion))
        row = {"name": f"{category}/{counts[category]}",
        "gold": gold, "completion": completion, "correct": correct}
        lines.append(json.dumps(row))
    target.write_text("\n".join(lines) + "\n")
    n_correct = sum('"correct": true' in line for line in lines)
    print(f"{len(lines)} pairs, {n_correct} correct")


if __name__ == "__main__":
    main()
