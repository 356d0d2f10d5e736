package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/store"
)

var _ store.LossFinder = (*Target)(nil)

// LookForLoss implements store.LossFinder: the masters' run ids. One that is no master's any more was
// restarted, or a replica was promoted in its place: it may lack the last writes. A cluster that
// gets masters loses none.
func (t *Target) LookForLoss(ctx context.Context, seen string) (now, lost string, err error) {
	var mu sync.Mutex
	var ids []string
	err = t.masters(ctx, func(ctx context.Context, client *goredis.Client) error {
		info, err := client.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, infoField(info, "run_id"))
		return nil
	})
	if isReply(err) { // INFO is not allowed: nothing is known of the servers
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("read the run ids of Redis: %w", contextError(ctx, err))
	}
	slices.Sort(ids)
	for _, id := range strings.Fields(seen) {
		if !slices.Contains(ids, id) {
			lost = fmt.Sprintf("the server with run id %.12s is no master now: it was restarted, or a replica was promoted", id)
		}
	}
	return strings.Join(ids, " "), lost, nil
}
