package httpfleet_test

import (
	"context"
	"log"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/httpfleet"
)

// An instance whose state is behind two daemons. kit.Open makes the fleet of its Options.Daemons.
func Example() {
	fleet, err := httpfleet.New("products", httpfleet.Options{
		URLs:      []string{"https://migrator-a.internal.example:7070", "https://migrator-b.internal.example:7070"},
		TokenFile: "/run/secrets/migrator-token",
	})
	if err != nil {
		log.Print(err)
		return
	}
	defer fleet.Close()
	instance, err := dual.Join(context.Background(), dual.Config{Fleet: fleet})
	if err != nil {
		log.Print(err) // and again, after a pause
		return
	}
	log.Print(instance.Route())
	log.Print(instance.Run(context.Background())) // until its context ends; then it leaves
}
