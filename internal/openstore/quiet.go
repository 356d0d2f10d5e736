package openstore

import (
	"context"

	goredis "github.com/redis/go-redis/v9"
)

// SilenceDrivers stops the stores' drivers from logging on their own: they write to
// standard error, and their errors are returned too. It is for programs, at their
// beginning: it holds for the whole process.
func SilenceDrivers() { goredis.SetLogger(silent{}) }

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
