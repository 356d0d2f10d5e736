module github.com/stranglerfig/migrator/openfeature

go 1.26.0

require (
	github.com/cespare/xxhash/v2 v2.3.0
	github.com/open-feature/go-sdk v1.20.0
	github.com/stranglerfig/migrator v0.0.0
)

require (
	github.com/cockroachdb/apd/v3 v3.2.3 // indirect
	github.com/go-json-experiment/json v1.27.2 // indirect
	go.uber.org/mock v0.6.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/stranglerfig/migrator => ../
