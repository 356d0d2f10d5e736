package testenv

import (
	"context"
	"testing"

	"go.uber.org/goleak"
)

func TestGoroutinesListsAll(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s, err := StartRedis(t.Context(), RedisOptions{})
	must(t, err)
	ignore := []goleak.Option{before}
	for _, name := range Goroutines() {
		ignore = append(ignore, goleak.IgnoreAnyFunction(name))
	}
	goleak.VerifyNone(t, ignore...)
	must(t, s.Stop(context.Background()))
}
