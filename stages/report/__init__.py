"""The verb `report`: gather what every stage measured into one table, comparison tables, figures and a page."""
