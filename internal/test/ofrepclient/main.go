// Command ofrepclient evaluates flags by OpenFeature's SDK for Go and its provider for OFREP: one command a line of the
// input, one answer a line of the output, both JSON. It has nothing of ours, and a module of its own.
//
//	ofrepclient URL TOKEN
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/open-feature/go-sdk-contrib/providers/ofrep"
	"github.com/open-feature/go-sdk/openfeature"
)

type command struct {
	Do, Flag, Key string
	Keys          []string
}

type answer struct {
	Value any    `json:"value"`
	Error string `json:"error,omitempty"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if err := openfeature.SetProviderAndWait(ofrep.NewProvider(os.Args[1], ofrep.WithBearerToken(os.Args[2]))); err != nil {
		return err
	}
	client := openfeature.NewDefaultClient()
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		var a answer
		var err error
		if a.Value, err = do(client, c); err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}

func do(client *openfeature.Client, c command) (any, error) {
	ctx := context.Background()
	switch c.Do {
	case "texts":
		all := []string{}
		for _, key := range c.Keys {
			value, err := client.StringValue(ctx, c.Flag, "the default", openfeature.NewEvaluationContext(key, nil))
			if err != nil {
				return nil, err
			}
			all = append(all, value)
		}
		return all, nil
	case "text":
		d, err := client.StringValueDetails(ctx, c.Flag, "the default", openfeature.NewEvaluationContext(c.Key, nil))
		return map[string]any{"value": d.Value, "flagMetadata": d.FlagMetadata}, err
	}
	return nil, fmt.Errorf("there is no command %q", c.Do)
}
