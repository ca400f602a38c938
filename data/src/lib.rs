//! The arithmetic task: questions, worked answers, flawed answers and a judge's thoughts.
