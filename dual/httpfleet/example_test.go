package httpfleet_test

import (
	"context"
	"log"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/httpfleet"
)

// An instance whose state is behind two daemons. kit.Open takes the fleet as Options.Fleet.
func Example() {
	// docs: fleet
	fleet, err := httpfleet.New("products", httpfleet.Options{
		URLs:      []string{"https://migrator-a.internal.example:7070", "https://migrator-b.internal.example:7070"},
		TokenFile: "/run/secrets/migrator-token",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer fleet.Close()
	// docs: end
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	instance, err := dual.Join(ctx, dual.Config{Fleet: fleet})
	if err != nil {
		log.Fatal(err)
	}
	log.Print(instance.Route())
	log.Print(instance.Run(ctx)) // until ctx ends; then it leaves
}
