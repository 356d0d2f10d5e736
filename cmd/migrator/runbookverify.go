package main

import "github.com/spf13/cobra"

func newRunbookVerify(c *cli) *cobra.Command {
	return &cobra.Command{Use: "verify [FILE]", Args: noArgs}
}

func newRunbookExport(c *cli) *cobra.Command { return &cobra.Command{Use: "export RUN", Args: noArgs} }
