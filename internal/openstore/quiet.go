package openstore

import (
	"context"

	goredis "github.com/redis/go-redis/v9"
)

// SilenceDrivers stops the stores' drivers from logging to standard error; they return
// the same errors. It changes the whole process: a program calls it at its start.
func SilenceDrivers() { goredis.SetLogger(silent{}) }

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
