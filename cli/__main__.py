from ntksap_export.cli.app import main

main()
