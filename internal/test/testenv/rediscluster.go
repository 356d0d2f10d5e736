package testenv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const clusterSlots = 16384

// RedisCluster is private masters that share all slots, without replicas and without a
// password.
type RedisCluster struct{ Nodes []*RedisServer }

// StartRedisCluster starts a cluster of masters (three or more) and returns when every node
// reports that it is complete.
func StartRedisCluster(ctx context.Context, masters int) (*RedisCluster, error) {
	c := &RedisCluster{}
	for range masters {
		node, err := StartRedis(ctx, RedisOptions{NoPassword: true, Config: []string{
			"cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 2000",
		}})
		if err != nil {
			return nil, errors.Join(err, c.Stop(ctx))
		}
		c.Nodes = append(c.Nodes, node)
	}
	if err := c.join(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("join Redis nodes to a cluster: %w", err), c.Stop(ctx))
	}
	return c, nil
}

func (c *RedisCluster) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	clients := make([]*redis.Client, len(c.Nodes))
	for i, node := range c.Nodes {
		clients[i] = node.client()
		defer func() { _ = clients[i].Close() }()
		first, last := i*clusterSlots/len(c.Nodes), (i+1)*clusterSlots/len(c.Nodes)-1
		if err := clients[i].ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			return err
		}
		// Distinct from the start, otherwise the nodes must resolve collisions first.
		if err := clients[i].Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return err
		}
	}
	for _, node := range c.Nodes[1:] {
		host, port, _ := strings.Cut(node.Addr(), ":")
		if err := clients[0].ClusterMeet(ctx, host, port).Err(); err != nil {
			return err
		}
	}
	complete := fmt.Sprintf("cluster_known_nodes:%d\r", len(c.Nodes))
	return await(ctx, 20*time.Millisecond, "the Redis cluster to be complete", func() (bool, error) {
		for _, client := range clients {
			info, err := client.ClusterInfo(ctx).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, complete) {
				return false, nil
			}
		}
		return true, nil
	})
}

// URL returns a URL with all nodes, for redis.ParseClusterURL.
func (c *RedisCluster) URL() string {
	var b strings.Builder
	b.WriteString("redis://" + c.Nodes[0].Addr())
	for i, node := range c.Nodes[1:] {
		b.WriteString(map[bool]string{true: "?", false: "&"}[i == 0] + "addr=" + node.Addr())
	}
	return b.String()
}

// Stop stops all nodes for good.
func (c *RedisCluster) Stop(ctx context.Context) error {
	var errs []error
	for _, node := range c.Nodes {
		errs = append(errs, node.Stop(ctx))
	}
	return errors.Join(errs...)
}
