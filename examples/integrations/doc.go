// Package integrations is a module of its own, so that no other build needs the libraries that
// its examples use: sqlc's output, GORM, ent. docs/integrations.md quotes them, and make
// integrations tests them.
package integrations
