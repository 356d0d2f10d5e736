// Package mutate breaks the product, one line at a time, and sees that a test fails.
//
// The table ties each rule of docs/protocol.md to mutants. A mutant is a text that occurs once in a
// file of the product, what replaces it, and the tests that must notice. The tests of this package
// compare the table with the page and with the files. To run the mutants:
//
//	make mutate                       # all, and write docs/model.md
//	make mutate MUTANT='fence|lease'  # those whose names match
//
// The go command reads the changed file in place of the product's (-overlay), so nothing in the
// work tree changes. A mutant that no test notices has survived: write the test.
package mutate
