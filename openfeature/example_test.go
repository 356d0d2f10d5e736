package openfeature_test

import (
	"context"
	"fmt"

	sdk "github.com/open-feature/go-sdk/openfeature"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/openfeature"
	"github.com/stranglerfig/migrator/phases"
)

func Example() {
	ctx := context.Background()
	instance, err := dual.Join(ctx, dual.Config{Fleet: dual.NewMemoryFleet(phases.Route{Phase: phases.Grace})})
	if err != nil {
		panic(err)
	}
	store, err := storeOf(ctx, instance, "7")
	fmt.Println(store, err)
	// Output: target <nil>
}

// docs: provider
func storeOf(ctx context.Context, instance *dual.Instance, key string) (string, error) {
	provider, err := openfeature.New(map[string]openfeature.Source{"products": instance}, openfeature.Options{})
	if err != nil {
		return "", err
	}
	if err := sdk.SetNamedProviderAndWait("shop", provider); err != nil { // once in a process
		return "", err
	}
	return sdk.NewClient("shop").StringValue(ctx, "migrator.products.read", "legacy", sdk.NewEvaluationContext(key, nil))
}

// docs: end
